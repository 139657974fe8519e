"""Looking at an HDF5 file before reading it: what could execute, leave the file or fill the memory is refused.

HDF5 lets a small file lead to other files (external links, external storage, virtual datasets), load plugins (filters),
and ask for any amount of memory (shapes without data, chunks that inflate, a thousand references to one long text). The
checks here read only metadata, cost milliseconds a shard, and leave nothing but plain arrays of known size. They are
given open files; `opening` has a child process look at a file before it is opened here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat.core.memory import available_memory
from cellfeat.errors import CellfeatError, Damaged, NewerFormat, one_line
from cellfeat.store.chunks import PIPELINE, filters_of
from cellfeat.store.schema import (
    IMAGES,
    MAX_CELL_BYTES,
    MAX_METADATA,
    METADATA,
    REPAIR,
    Element,
    all_elements,
    metadata_element,
)

H5PY_ERRORS = (OSError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)  # on damaged files
UNASKED = 1 << 24  # bytes that are taken without a look: asking the system takes as long as reading a cell
MAX_TEXT_BYTES = 1 << 28  # of one column of texts
_TEXT_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])  # as HDF5 stores one


@contextmanager
def damage_named(path: str | Path) -> Iterator[None]:
    """Turn whatever h5py raises on a damaged shard into an error that names it.

    Raises:
        Damaged: In its place.
    """
    try:
        yield
    except CellfeatError:
        raise
    except H5PY_ERRORS as error:
        raise Damaged(f"{path}: damaged ({one_line(error)})", REPAIR) from None


def text_attribute(handle: h5py.File, name: str) -> str | None:
    """A scalar text among the root's attributes; None where there is none."""
    if name not in handle.attrs:
        return None
    attribute = handle.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        return None
    value = handle.attrs[name]
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def own_dataset(handle: h5py.File, name: str, remedy: str = REPAIR) -> h5py.Dataset:
    """The dataset `name`, which lies in this file and not behind a link.

    Raises:
        CellfeatError: There is none.
    """
    found: Any = handle
    for part in name.split("/"):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise Damaged(f"{handle.filename}: lacks the dataset {name!r}", remedy)
        if not isinstance(link, h5py.HardLink):
            raise CellfeatError(f"{handle.filename}: {name} is a {type(link).__name__}, which a store must not hold")
        found = found[part]
    if not isinstance(found, h5py.Dataset):
        raise Damaged(f"{handle.filename}: {name} is no dataset", remedy)
    return found


def elements_of(handle: h5py.File) -> list[Element]:
    """The elements that a shard should have: those of the schema, and its own metadata columns.

    Raises:
        Damaged: It has more or other metadata columns than a store can have.
    """
    name = METADATA.rstrip("/")
    if IMAGES.rstrip("/") not in handle or handle.get(name, getlink=True) is None:
        return list(all_elements())
    group = handle[name] if isinstance(handle.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(group, h5py.Group) or len(group) > MAX_METADATA:
        raise Damaged(f"{handle.filename}: {name} is no group of up to {MAX_METADATA} columns", REPAIR)
    try:
        return [*all_elements(), *map(metadata_element, group)]
    except CellfeatError as error:
        raise Damaged(f"{handle.filename}: {error.what}", REPAIR) from None


def check_dataset(
    dataset: h5py.Dataset, shape: tuple[int, ...], dtype: str, one_cell: bool = False, remedy: str = REPAIR
) -> None:
    """Refuse a dataset that is not a plain array of `shape` and `dtype` ("utf-8": texts) with all its data in place.

    Args:
        dataset: The dataset.
        shape: The shape that it must have.
        dtype: The dtype that it must have.
        one_cell: Its chunks must hold one row each.
        remedy: What to do about a damaged one.

    Raises:
        CellfeatError: Naming the file, the dataset and what is wrong.
    """
    where = f"{dataset.file.filename}: {dataset.name[1:]}"
    if dataset.is_virtual or dataset.external:
        raise CellfeatError(f"{where} takes its data from other files, which a store must not do")
    found = "utf-8" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)
    if dataset.shape != shape or found != dtype:
        raise Damaged(f"{where} is {dataset.shape} {found}, should be {shape} {dtype}", remedy)
    filters = filters_of(dataset)
    if foreign := set(filters) - set(PIPELINE):
        raise CellfeatError(f"{where} has filter {min(foreign)}; a store has shuffle, gzip, fletcher32 alone")
    if filters != tuple(name for name in PIPELINE if name in filters):
        raise Damaged(f"{where} has its filters in another order than shuffle, gzip, fletcher32", remedy)
    version = dataset.attrs.get("encoding_version")
    if version is not None and str(version).split(".")[0] != "1":
        raise NewerFormat(f"{where} is encoded in version {version}, this cellfeat reads 1.x", "update cellfeat")
    if one_cell and dataset.chunks != (1, *shape[1:]):
        raise Damaged(f"{where} has chunks of {dataset.chunks}, should be one cell a chunk", remedy)
    if dtype == "utf-8":
        _check_texts(where, dataset, remedy)
    elif dataset.chunks:
        _check_chunks(where, dataset, remedy)
    elif dataset.size and dataset.id.get_storage_size() != dataset.nbytes:
        raise Damaged(f"{where} lacks a part of its data", remedy)


def check_memory(what: str, size: int) -> None:
    """Refuse to take `size` bytes where the machine has less to give, rather than be killed for it.

    Raises:
        CellfeatError: Saying so.
    """
    if size < UNASKED:
        return
    free = available_memory()
    if size > free:
        raise CellfeatError(
            f"{what}: needs {size / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free; read fewer rows at a time"
        )


def _check_chunks(where: str, dataset: h5py.Dataset, remedy: str) -> None:
    """Every chunk is there, small, and stored in no more bytes than it has: then it inflates to a bounded size."""
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    most = size + size // 100 + 1024  # what deflate and fletcher32 add to noise
    sizes: list[int] = []
    dataset.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
    wanted = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks))
    if size > MAX_CELL_BYTES or max(sizes, default=0) > most:
        raise Damaged(f"{where} has chunks of {size} bytes, stored in up to {max(sizes, default=0)}", remedy)
    if len(sizes) != wanted:
        raise Damaged(f"{where} lacks a part of its data ({len(sizes)} of {wanted} chunks)", remedy)


def _check_texts(where: str, dataset: h5py.Dataset, remedy: str) -> None:
    """The texts of a column take a bounded size. Variable-length ones lie in a heap, to which the dataset refers."""
    if (length := h5py.check_string_dtype(dataset.dtype).length) is not None:
        total = length * dataset.size
        if dataset.chunks:
            _check_chunks(where, dataset, remedy)
    else:
        file = dataset.file
        if dataset.chunks or file.userblock_size or file.id.get_create_plist().get_sizes()[0] != 8:
            raise CellfeatError(f"{where} is stored in chunks or with short addresses; store texts plainly")
        offset = dataset.id.get_offset()
        if dataset.size and (
            offset is None or dataset.id.get_storage_size() != dataset.size * _TEXT_REFERENCE.itemsize
        ):
            raise Damaged(f"{where} lacks its data", remedy)
        total = 0
        if dataset.size:
            references = np.fromfile(file.filename, _TEXT_REFERENCE, dataset.size, offset=offset)
            total = int(references["length"].astype(np.int64).sum())
    if total > MAX_TEXT_BYTES:
        raise CellfeatError(f"{where} takes {total} bytes of text; a shard has {MAX_TEXT_BYTES} at most")
