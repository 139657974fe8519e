"""The shards of one store: files opened at first use, rows of their elements by number."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from cellfeat.errors import Damaged
from cellfeat.store import probe
from cellfeat.store.chunks import PIECE, Chunks, Packed, read_packed, read_rows
from cellfeat.store.guard import check_memory, damage_named, elements_of
from cellfeat.store.index import Index, read_index
from cellfeat.store.opening import check_place, open_shard
from cellfeat.store.schema import MANIFEST, REPAIR, Element, Layout
from cellfeat.store.schema import element as element_named

OPEN_SHARDS = 64  # handles held at a time: several stores at once stay below the lowest usual limit of open files, 256


class Shards:
    """The shards that a manifest lists, for reading.

    May be pickled and used after a fork: HDF5 handles are opened at first use in each process and never shared.

    Args:
        path: Folder of the store.
        manifest: Its manifest, checked.
        indexed: Take rows from the store's index where it has one that fits, instead of opening shards.

    Attributes:
        path, manifest: As given.
        layout: Feature shape and dtype, crop size.
        ends: (number of shards,) int64: the row after the last one of each shard.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], indexed: bool = False) -> None:
        self.path = path
        self._indexed = indexed
        self.manifest = manifest
        self.layout = Layout.of(manifest)
        self.ends = np.cumsum([entry["cells"] for entry in manifest["shards"]], dtype=np.int64)
        self._handles: dict[int, h5py.File] = {}
        self._chunks: dict[tuple[int, str], Chunks] = {}
        self._columns: dict[tuple[int, str], np.ndarray] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        self._index: Index | None = None
        self._index_sought = not indexed
        self._pid = os.getpid()

    def __len__(self) -> int:
        """Number of shards."""
        return len(self.ends)

    def __getstate__(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "_handles": {},
            "_chunks": {},
            "_columns": {},
            "_index": None,
            "_index_sought": not self._indexed,
        }
        return {**vars(self), **own}

    @property
    def index(self) -> Index | None:
        """The store's index, if it has one that fits and is to be used."""
        if not self._index_sought:
            self.index = read_index(self.path, self.manifest["shards"])
        return self._index

    @index.setter
    def index(self, index: Index | None) -> None:
        self._index, self._index_sought = index, True
        if index is not None:
            for number in range(len(self)):
                self._check_unchanged(number)

    @property
    def cells(self) -> int:
        """Number of cells of all shards."""
        return int(self.ends[-1]) if len(self) else 0

    def file(self, number: int) -> Path:
        """Path of the `number`-th listed shard."""
        return self.path / self.manifest["shards"][number]["file"]

    def open(self, number: int) -> h5py.File:
        """The open HDF5 file of the `number`-th listed shard, of this process.

        Raises:
            CellfeatError: The file is missing or damaged.
        """
        if self._pid != os.getpid():  # handles never cross a fork
            self._close()
            self._pid = os.getpid()
        handle = self._handles.pop(number, None)
        if handle is None:
            if len(self._handles) >= OPEN_SHARDS:  # the one that was not used for longest
                del self._handles[next(iter(self._handles))]  # closes once no other thread reads from it
            handle = open_shard(self.path, self.manifest["shards"][number], self.layout)
        self._handles[number] = handle
        self._check_unchanged(number)
        return handle

    def look_at(self, numbers: Iterable[int]) -> None:
        """Have one child process look at several shards, rather than one each when they are opened."""
        probe.look_at(self.file(number) for number in numbers)

    def column(self, number: int, element: Element) -> np.ndarray:
        """All rows of a small element of one shard: numbers in the store's dtype, or texts as Python strings.

        Raises:
            CellfeatError: The shard is missing or damaged.
        """
        shard = self.open(number)
        with damage_named(shard.filename):
            if element.name not in shard:
                return element.rows(self.manifest["shards"][number]["images" if element.of_image else "cells"])
            return shard[element.name].asstr()[:] if element.is_text else shard[element.name][:]

    def elements(self, number: int) -> list[Element]:
        """The elements of one shard, its metadata columns included.

        Raises:
            CellfeatError: The shard is missing or damaged.
        """
        shard = self.open(number)
        with damage_named(shard.filename):
            return elements_of(shard)

    def images_of_cells(self, number: int) -> np.ndarray:
        """For each cell of one shard, the row of its image in the shard, (n,) int64.

        Raises:
            CellfeatError: The shard is missing or damaged.
        """
        image_ids = self.column(number, element_named("images/image_id"))
        return owners(self.column(number, element_named("image_id")), image_ids, self.file(number))

    def read(self, element: Element, rows: np.ndarray) -> np.ndarray:
        """Rows of a per-cell element, in the order asked for.

        They are fetched in store order; those of large arrays by several threads.

        Args:
            element: An element of cells.
            rows: (n,) int64, numbers of rows of the store.

        Raises:
            CellfeatError: More than the free memory, a shard missing or damaged.
        """
        shape, dtype = self.layout.form(element)
        if element.is_text:
            dtype = "O"
        check_memory(
            f"{self.path}: {element.name} of {len(rows)} cells",
            len(rows) * math.prod(shape) * np.dtype(dtype).itemsize,
        )
        out = np.empty((len(rows), *shape), dtype)
        if element.is_array:
            read_rows(self._pieces(element.name, rows), out)
        elif self.index is not None:
            out[:] = self.index.cells[element.name][rows]
        else:
            for number, indices, local in self._by_shard(rows):
                out[indices] = self._kept_column(number, element)[local]
        return out

    def packed(self, number: int, name: str, rows: np.ndarray) -> list[Packed]:
        """Chunks of a large array of one shard as they are stored, checked by their fletcher32 and not unpacked.

        Args:
            number: Of the shard.
            name: Of the array.
            rows: (k,) rows of the shard.

        Raises:
            CellfeatError: The shard is missing or damaged.
        """
        return read_packed(self._chunks_of(number, name), rows, *self.layout.arrays[name])

    def _kept_column(self, number: int, element: Element) -> np.ndarray:
        key = number, element.name
        if key not in self._columns:
            self._columns[key] = self.column(number, element)
        return self._columns[key]

    def _by_shard(self, rows: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(number of the shard, indices into `rows`, rows of the shard) for each shard that the rows lie in."""
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows, self.ends, sorter=order)
        found = []
        for number in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
            indices = order[ends[number - 1] if number else 0 : ends[number]]
            first = self.ends[number] - self.manifest["shards"][number]["cells"]
            found.append((number, indices, rows[indices] - first))
        return found

    def _pieces(self, name: str, rows: np.ndarray) -> list[tuple[Chunks, np.ndarray, np.ndarray]]:
        """What `read_rows` takes: the rows in store order, cut into pieces of one shard each."""
        by_shard = self._by_shard(rows)
        if self.index is None:
            self.look_at(number for number, _, _ in by_shard if (number, name) not in self._chunks)
        return [
            (self._chunks_of(number, name), local[k : k + PIECE], indices[k : k + PIECE])
            for number, indices, local in by_shard
            for k in range(0, len(indices), PIECE)
        ]

    def read_chunks(self, number: int, name: str) -> Chunks:
        """Where the chunks of a large array lie in one shard, as its file tells.

        Raises:
            CellfeatError: The shard is missing or damaged.
        """
        shard = self.open(number)
        with damage_named(shard.filename):
            return Chunks.of(shard[name])

    def _check_unchanged(self, number: int) -> None:
        """Refuse a shard that is not the file that was first looked at: its rows may be other cells by now.

        Raises:
            Damaged: Its size or its time of change is another, or it is gone.
        """
        path = self.file(number)
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise Damaged(f"{path}: listed in {MANIFEST} but missing", REPAIR) from None
        found = stat.st_size, stat.st_mtime_ns
        if self._stamps.setdefault(number, found) != found:
            raise Damaged(f"{path}: was changed after the store was opened", "open it again")

    def _chunks_of(self, number: int, name: str) -> Chunks:
        self._check_unchanged(number)
        if (number, name) not in self._chunks:
            if self.index is None:
                found = self.read_chunks(number, name)
            else:
                path = check_place(self.path, self.manifest["shards"][number])
                found = self.index.chunks_of(path, number, name)
            self._chunks[number, name] = found
        return self._chunks[number, name]

    def _close(self) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles = {}


def owners(image_id: np.ndarray, image_ids: np.ndarray, file: Path) -> np.ndarray:
    """For each cell of one shard, the row of its image in the shard.

    Args:
        image_id: (n,) str, the image of each cell.
        image_ids: (m,) str, the images that the shard lists.
        file: The shard, for the message.

    Raises:
        Damaged: An image is listed twice or not at all.
    """
    images = pd.Index(image_ids)
    if not images.is_unique or (rows := images.get_indexer(image_id)).min(initial=0) < 0:
        raise Damaged(f"{file}: does not list the image of each cell once", REPAIR)
    return rows
