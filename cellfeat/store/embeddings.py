"""Embeddings: one vector a cell, one HDF5 file a method, tied to the store they were made from by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat import __version__
from cellfeat.errors import CellfeatError
from cellfeat.files import atomic_path
from cellfeat.store import probe
from cellfeat.store.guard import H5PY_ERRORS, check_dataset, check_memory, open_file, own_dataset, text_attribute
from cellfeat.store.schema import check_format, one_line

FORMAT = "cellfeat-embeddings"
VERSION = "1.0"
REMEDY = "not an embeddings file or damaged: embed again"
REQUIRED = ("method", "config", "store_digest")
_OWN = ("format", "version", "package_version")


@dataclass
class Embeddings:
    """Vectors of cells.

    Attributes:
        cell_id: (n,) str, unique.
        z: (n, d) float32, finite; row i belongs to cell_id[i].
        attributes: method, config (JSON text), store_digest, and whatever else the method told.
    """

    cell_id: np.ndarray
    z: np.ndarray
    attributes: dict[str, Any] = field(default_factory=dict)


def write_embeddings(
    path: str | Path, cell_id: Sequence[str] | np.ndarray, z: np.ndarray, attributes: dict[str, Any]
) -> None:
    """Write an embeddings file; it appears whole or not at all.

    Args:
        path: The file, by custom `embeddings/<method>.h5`.
        cell_id: (n,) cell ids, unique.
        z: (n, d) finite numbers, n and d at least 1; stored as float32.
        attributes: Strings, numbers or booleans; `method`, `config` and `store_digest` at least.

    Raises:
        CellfeatError: Anything else than the above.
    """
    path = Path(path)
    embeddings = Embeddings(np.asarray(cell_id, dtype=str), np.asarray(z), attributes)
    with np.errstate(over="ignore"):  # an overflow shows as inf and is refused by the check
        embeddings.z = embeddings.z.astype(np.float32)
    for name, value in attributes.items():
        if name in _OWN or not isinstance(value, (str, int, float, bool)):
            raise CellfeatError(f"{path}: attribute {name!r} is taken or no string, number or boolean; give JSON text")
    _check(path, embeddings)
    # In memory first, as a shard: HDF5 crashes the process when the disk is full.
    with h5py.File(f"{path}.{id(embeddings)}", "w", driver="core", backing_store=False) as handle:
        handle.attrs.update({"format": FORMAT, "version": VERSION, "package_version": __version__, **attributes})
        handle.create_dataset("cell_id", data=embeddings.cell_id.astype(object), dtype=h5py.string_dtype())
        handle.create_dataset("z", data=embeddings.z, compression="gzip", shuffle=True, fletcher32=True)
        handle.flush()
        content = handle.id.get_file_image()
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    probe.trust(path)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read and check an embeddings file.

    Raises:
        CellfeatError: The file is missing, damaged, something else, or of a newer major version.
    """
    path = Path(path)
    if not path.is_file():
        raise CellfeatError(f"{path}: no such file; embed the store first")
    try:
        with open_file(path, REMEDY) as handle:
            check_format(path, text_attribute(handle, "format"), text_attribute(handle, "version"), FORMAT, VERSION)
            z = own_dataset(handle, "z", REMEDY)
            if z.ndim != 2 or z.dtype.kind != "f":
                raise CellfeatError(f"{path}: z is {z.shape} {z.dtype}, should be (n, d) float32; embed again")
            check_dataset(z, z.shape, str(z.dtype), remedy=REMEDY)
            check_dataset(own_dataset(handle, "cell_id", REMEDY), z.shape[:1], "utf-8", remedy=REMEDY)
            check_memory(f"{path}: z", z.size * 4)
            attributes = {name: _plain(value) for name, value in handle.attrs.items()}
            embeddings = Embeddings(
                handle["cell_id"].asstr()[:].astype(str),
                handle["z"][:].astype(np.float32, copy=False),
                {name: value for name, value in attributes.items() if name not in _OWN},
            )
    except H5PY_ERRORS as error:
        raise CellfeatError(f"{path}: not an embeddings file or damaged ({one_line(error)}); embed again") from None
    _check(path, embeddings)
    return embeddings


def _check(path: Path, embeddings: Embeddings) -> None:
    cell_id, z = embeddings.cell_id, embeddings.z
    if z.ndim != 2 or not z.size or cell_id.shape != z.shape[:1]:
        raise CellfeatError(f"{path}: cell_id {cell_id.shape} and z {z.shape}; they must be (n,) and (n, d), not empty")
    names, counts = np.unique(cell_id, return_counts=True)
    for name in names[counts > 1].tolist():
        raise CellfeatError(f"{path}: cell {name!r} occurs more than once; give one row a cell")
    for name in cell_id[~np.isfinite(z).all(axis=1)].tolist():
        raise CellfeatError(f"{path}: z of cell {name!r} is not finite in float32; check the method")
    for name in REQUIRED:
        if name not in embeddings.attributes:
            raise CellfeatError(f"{path}: lacks the attribute {name!r}; embed again with it")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
