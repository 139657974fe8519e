"""Opening HDF5 files that others wrote: a child process looks at a file first, then its elements are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from cellfeat.errors import CellfeatError, Damaged, one_line
from cellfeat.store import probe
from cellfeat.store.guard import H5PY_ERRORS, check_dataset, damage_named, elements_of, own_dataset, text_attribute
from cellfeat.store.schema import (
    FORMAT,
    MANIFEST,
    MAX_SHARD_BYTES,
    REPAIR,
    SHARDS,
    VERSION,
    Layout,
    check_format,
)


def open_shard(store: Path, entry: dict[str, Any], layout: Layout) -> h5py.File:
    """Open the shard that a manifest's `entry` lists, for reading.

    Shards never change, so they are opened without HDF5's file locks (which fail on some network file systems); a
    chunk is one cell and is read whole, so no chunk cache is held.

    Raises:
        Damaged: The file is missing, damaged, or is not what the manifest and the format say.
        NewerFormat: A newer major version wrote it.
        CellfeatError: It leads out of the store, or holds what a store must not hold.
    """
    path = check_place(store, entry)
    handle = open_file(path, REPAIR)
    try:
        with damage_named(path):
            _check_shard(handle, entry, layout)
    except CellfeatError:
        handle.close()
        raise
    return handle


def check_place(store: Path, entry: dict[str, Any]) -> Path:
    """The file of the shard that a manifest's `entry` lists.

    Raises:
        Damaged: It is missing, or larger than a shard may be.
        CellfeatError: It leads out of the store.
    """
    path = store / entry["file"]
    if not path.exists():
        raise Damaged(f"{path}: listed in {MANIFEST} but missing", REPAIR)
    if not path.is_file() or path.resolve().parent != (store.resolve() / SHARDS):
        raise CellfeatError(f"{path}: leads out of the store; put the shard itself there")
    if path.stat().st_size >= MAX_SHARD_BYTES:
        raise Damaged(f"{path}: larger than a shard may be ({path.stat().st_size} bytes)", REPAIR)
    return path


def open_file(path: Path, remedy: str) -> h5py.File:
    """Open an HDF5 file for reading, once a child process has looked at it.

    Raises:
        Damaged: It is no HDF5 file, or is damaged.
    """
    if problem := probe.problem(path):
        raise Damaged(f"{path}: {problem}", remedy)
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except H5PY_ERRORS as error:
        raise Damaged(f"{path}: truncated or damaged ({one_line(error)})", remedy) from None


def _check_shard(handle: h5py.File, entry: dict[str, Any], layout: Layout) -> None:
    path = Path(handle.filename)
    check_format(path, text_attribute(handle, "format"), text_attribute(handle, "version"), FORMAT, VERSION)
    for element in elements_of(handle):
        if element.default is not None and element.name not in handle:
            continue
        shape, dtype = layout.form(element)
        count = entry["images"] if element.of_image else entry["cells"]
        check_dataset(own_dataset(handle, element.name), (count, *shape), dtype, one_cell=element.is_array)
