"""Files of one row of numbers a cell, tied to the store they were made from by its digest: what embeddings and
predictions have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from cellfeat.core.files import atomic_path
from cellfeat.core.version import __version__
from cellfeat.errors import CellfeatError, Damaged, one_line
from cellfeat.store import probe
from cellfeat.store.guard import H5PY_ERRORS, check_dataset, check_memory, own_dataset, text_attribute
from cellfeat.store.opening import open_file
from cellfeat.store.schema import check_format

REQUIRED = ("method", "config", "store_digest")
_OWN = ("format", "version", "package_version")


class Kind(NamedTuple):
    """One kind of such files.

    Attributes:
        format, version: Written into the file; readers refuse a newer major version.
        matrix: Name of the (n, d) dataset.
        columns: Name of the dataset with the d columns' names, "" where they have none.
        noun, verb: For messages: what the file is ("an embeddings file"), what to do again ("embed").
    """

    format: str
    version: str
    matrix: str
    columns: str
    noun: str
    verb: str


class CellMatrix(NamedTuple):
    """What such a file holds: cell_id (n,) str, unique; values (n, d) float32, finite; columns (d,) str or (0,)."""

    cell_id: np.ndarray
    values: np.ndarray
    columns: np.ndarray
    attributes: dict[str, Any]


def write_matrix(
    path: Path,
    kind: Kind,
    cell_id: Sequence[str] | np.ndarray,
    values: np.ndarray,
    columns: Sequence[str],
    attributes: dict[str, Any],
) -> None:
    """Write such a file; it appears whole or not at all.

    Raises:
        CellfeatError: Something that `CellMatrix` does not allow, or an attribute that is missing, taken or no scalar.
    """
    with np.errstate(over="ignore"):  # an overflow shows as inf and is refused by the check
        single = np.asarray(values).astype(np.float32)
    content = CellMatrix(np.asarray(cell_id, dtype=str), single, np.asarray(columns, dtype=str), attributes)
    for name, value in attributes.items():
        if name in _OWN or not isinstance(value, (str, int, float, bool)):
            raise CellfeatError(f"{path}: attribute {name!r} is taken or no string, number or boolean; give JSON text")
    _check(path, kind, content)
    # In memory first, as a shard: HDF5 crashes the process when the disk is full.
    with h5py.File(f"{path}.{id(content)}", "w", driver="core", backing_store=False) as handle:
        handle.attrs.update({"format": kind.format, "version": kind.version, "package_version": __version__})
        handle.attrs.update(attributes)
        texts = {"cell_id": content.cell_id} | ({kind.columns: content.columns} if kind.columns else {})
        for name, text in texts.items():
            handle.create_dataset(name, data=text.astype(object), dtype=h5py.string_dtype())
        handle.create_dataset(kind.matrix, data=content.values, compression="gzip", shuffle=True, fletcher32=True)
        handle.flush()
        image = handle.id.get_file_image()
    with atomic_path(path) as partial:
        partial.write_bytes(image)
    probe.trust(path)


def read_matrix(path: Path, kind: Kind) -> CellMatrix:
    """Read and check such a file.

    Raises:
        CellfeatError: The file is missing, damaged, something else, or of a newer major version.
    """
    if not path.is_file():
        raise CellfeatError(f"{path}: no such file; {kind.verb} the store first")
    remedy = f"not {kind.noun} or damaged: {kind.verb} again"
    try:
        with open_file(path, remedy) as handle:
            check_format(
                path, text_attribute(handle, "format"), text_attribute(handle, "version"), kind.format, kind.version
            )
            matrix = own_dataset(handle, kind.matrix, remedy)
            if matrix.ndim != 2 or matrix.dtype.kind != "f":
                found = f"{matrix.shape} {matrix.dtype}"
                raise CellfeatError(f"{path}: {kind.matrix} is {found}, should be (n, d) float32; {kind.verb} again")
            check_dataset(matrix, matrix.shape, str(matrix.dtype), remedy=remedy)
            check_memory(f"{path}: {kind.matrix}", matrix.size * 4)
            texts = {"cell_id": matrix.shape[:1]} | ({kind.columns: matrix.shape[1:]} if kind.columns else {})
            for name, shape in texts.items():
                check_dataset(own_dataset(handle, name, remedy), shape, "utf-8", remedy=remedy)
            attributes = {name: _plain(value) for name, value in handle.attrs.items()}
            content = CellMatrix(
                handle["cell_id"].asstr()[:].astype(str),
                handle[kind.matrix][:].astype(np.float32, copy=False),
                handle[kind.columns].asstr()[:].astype(str) if kind.columns else np.empty(0, str),
                {name: value for name, value in attributes.items() if name not in _OWN},
            )
    except H5PY_ERRORS as error:
        raise Damaged(f"{path}: not {kind.noun} or damaged ({one_line(error)})", f"{kind.verb} again") from None
    _check(path, kind, content)
    return content


def _check(path: Path, kind: Kind, content: CellMatrix) -> None:
    cell_id, values, name = content.cell_id, content.values, kind.matrix
    if values.ndim != 2 or not values.size or cell_id.shape != values.shape[:1]:
        raise CellfeatError(
            f"{path}: cell_id {cell_id.shape} and {name} {values.shape}; they must be (n,) and (n, d), not empty"
        )
    if kind.columns and content.columns.shape != values.shape[1:]:
        raise CellfeatError(f"{path}: {len(content.columns)} {kind.columns} for {name} {values.shape}; one a column")
    for what, texts in (("cell", cell_id), (kind.columns, content.columns)):
        unique, counts = np.unique(texts, return_counts=True)
        for text in unique[counts > 1].tolist():
            raise CellfeatError(f"{path}: {what} {text!r} occurs more than once; give one row a cell")
    for text in cell_id[~np.isfinite(values).all(axis=1)].tolist():
        raise CellfeatError(f"{path}: {name} of cell {text!r} is not finite in float32; check the method")
    for required in REQUIRED:
        if required not in content.attributes:
            raise CellfeatError(f"{path}: lacks the attribute {required!r}; {kind.verb} again with it")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
