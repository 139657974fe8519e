"""Reading a feature store: one table of cells, and rows of the large arrays in any order."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from cellfeat.core.files import digest
from cellfeat.errors import CellfeatError
from cellfeat.store import probe
from cellfeat.store.chunks import PIECE, Chunks, read_rows
from cellfeat.store.guard import check_memory, damage_named, open_shard
from cellfeat.store.manifest import read_manifest
from cellfeat.store.schema import IMAGE_COLUMNS, Layout
from cellfeat.store.verify import problems

OPEN_SHARDS = 200  # handles held at a time: below the lowest usual limit of open files, 256


class Store:
    """A feature store, opened for reading.

    A store shows the shards that its manifest listed when it was opened. It may be pickled and used after a fork: HDF5
    handles are opened at first use in each process and never shared.

    Args:
        path: Folder of the store.

    Attributes:
        path: Folder of the store.
        manifest: The manifest as read.
        layout: Feature shape and dtype, crop size.

    Raises:
        CellfeatError: The folder is not a store, or a newer major version of the format wrote it. The methods raise it
            for a shard that is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._open(Path(path), read_manifest(Path(path)))

    def _open(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.layout = Layout.of(self.manifest)
        self._ends = np.cumsum([shard["cells"] for shard in self.manifest["shards"]], dtype=np.int64)
        self._table: pd.DataFrame | None = None
        self._handles: dict[int, h5py.File] = {}
        self._chunks: dict[tuple[int, str], Chunks] = {}
        self._pid = os.getpid()

    def __len__(self) -> int:
        """Number of cells."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handles": {}, "_chunks": {}, "_table": None}

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} cells)"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one cell's feature."""
        return self.layout.feature_shape

    @property
    def provenance(self) -> dict[str, Any]:
        """What the rows depend on, as the writer was told."""
        return self.manifest["provenance"]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the provenance and the shards' digests: equal digests, equal content."""
        return digest([self.provenance, [shard["sha256"] for shard in self.manifest["shards"]]])

    def table(self) -> pd.DataFrame:
        """One row a cell in store order: cell_id, image_id, domain, label, score, x0, y0, x1, y1 (px, original image).

        Read once, then kept; the caller gets a copy.
        """
        if self._table is None:
            self._table = self._concatenate(self._from_each_shard(_cells), _cells(None))
        return self._table.copy()

    def images(self) -> pd.DataFrame:
        """One row an image seen: image_id, domain, label, width, height (px), cells, reason ("" unless unreadable)."""
        return self._concatenate(self._from_each_shard(_images), _images(None))

    def detection_rate(self) -> pd.DataFrame:
        """Per domain (the index): images (readable), with_cell, cells, unreadable, rate = with_cell / images."""
        seen = self.images()
        readable = seen["reason"] == ""
        counts = pd.DataFrame(
            {"images": readable, "with_cell": seen["cells"] > 0, "cells": seen["cells"], "unreadable": ~readable}
        )
        rates = counts.groupby(seen["domain"]).sum().astype(int)
        rates["rate"] = rates["with_cell"] / rates["images"]
        return rates

    def select(
        self,
        domain: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        score: tuple[float, float] | float | None = None,
    ) -> np.ndarray:
        """Numbers of the rows that pass every filter given, ascending, for `read`.

        Args:
            domain: Name or names of sites.
            label: Class or classes; "" for unlabelled cells.
            score: Lowest score, or lowest and highest.

        Raises:
            CellfeatError: No cell has that domain or label.
        """
        table = self.table()
        keep = np.ones(len(table), bool)
        for column, wanted in {"domain": domain, "label": label}.items():
            if wanted is None:
                continue
            names = [wanted] if isinstance(wanted, str) else list(wanted)
            if unknown := set(names) - set(table[column]):
                there = ", ".join(map(repr, sorted(set(table[column]))))
                raise CellfeatError(f"{self.path}: no cell has the {column} {min(unknown)!r}; there are {there}")
            keep &= table[column].isin(names).to_numpy()
        if score is not None:
            lowest, highest = (score, np.inf) if isinstance(score, (int, float)) else score
            keep &= table["score"].between(lowest, highest).to_numpy()
        return np.flatnonzero(keep)

    def read(self, name: str, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Read rows of one dataset.

        The rows are fetched in store order, by several threads, and come back in the order asked for.

        Args:
            name: "features" (n, C, H, W) float16 or float32, "crops" (n, S, S, 3) uint8 RGB, "masks" (n, S, S) uint8
                0/1, "boxes" (n, 4) float32 XYXY px of the original image, or "scores" (n,) float32.
            rows: A slice, or integers from 0 to len(store) - 1 in any order.

        Raises:
            CellfeatError: Unknown name, row outside the store, more than the free memory, shard missing or damaged.
        """
        rows = self._rows(rows)
        if name == "boxes":
            return self.table()[["x0", "y0", "x1", "y1"]].to_numpy(np.float32)[rows]
        if name == "scores":
            return self.table()["score"].to_numpy(np.float32)[rows]
        if name not in self.layout.arrays:
            raise CellfeatError(f"{name!r}: no such dataset; read {', '.join(self.layout.arrays)}, boxes or scores")
        shape, dtype = self.layout.arrays[name]
        check_memory(
            f"{self.path}: {name} of {len(rows)} cells", len(rows) * math.prod(shape) * np.dtype(dtype).itemsize
        )
        out = np.empty((len(rows), *shape), dtype)
        read_rows(self._pieces(name, rows), out)
        return out

    def verify(self, progress: bool = False) -> list[str]:
        """Read everything and list what is wrong with the store, one line a problem; an empty list is a sound store.

        Args:
            progress: Show a progress bar over the shards.
        """
        return problems(self, progress)

    def shard(self, number: int) -> h5py.File:
        """The open HDF5 file of the `number`-th listed shard, of this process.

        Raises:
            CellfeatError: The file is missing or damaged.
        """
        if self._pid != os.getpid():  # handles never cross a fork
            self._close()
            self._pid = os.getpid()
        if number not in self._handles:
            if len(self._handles) >= OPEN_SHARDS:
                del self._handles[next(iter(self._handles))]  # closes once no other thread reads from it
            self._handles[number] = open_shard(self.path, self.manifest["shards"][number], self.layout)
        return self._handles[number]

    def _close(self) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles = {}

    def _from_each_shard(self, columns: Callable[[h5py.File], pd.DataFrame]) -> list[pd.DataFrame]:
        numbers = range(len(self._ends))
        self._look_at(numbers)
        frames = []
        for number in numbers:
            shard = self.shard(number)
            with damage_named(shard.filename):
                frames.append(columns(shard))
        return frames

    def _look_at(self, numbers: Iterable[int]) -> None:
        """Have one child process look at several shards, rather than one each when they are opened."""
        probe.look_at(self.path / self.manifest["shards"][k]["file"] for k in numbers)

    def _concatenate(self, frames: list[pd.DataFrame], empty: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(frames, ignore_index=True) if frames else empty

    def _rows(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        array = np.asarray(rows)
        if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
            raise CellfeatError(f"rows of shape {array.shape} and dtype {array.dtype}: give a slice or row numbers")
        outside = array[(array < 0) | (array >= len(self))]
        if outside.size:
            raise CellfeatError(f"{self.path}: row {outside[0]} is outside the store's 0 to {len(self) - 1}")
        return array.astype(np.int64)

    def _pieces(self, name: str, rows: np.ndarray) -> list[tuple[Chunks, np.ndarray, np.ndarray]]:
        """What `read_rows` takes: the rows in store order, cut into pieces of one shard each."""
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows, self._ends, sorter=order)
        pieces = []
        numbers = np.flatnonzero(np.diff(ends, prepend=0)).tolist()
        self._look_at(k for k in numbers if (k, name) not in self._chunks)
        for number in numbers:
            places = order[ends[number - 1] if number else 0 : ends[number]]
            local = rows[places] - (self._ends[number] - self.manifest["shards"][number]["cells"])
            chunks = self._chunks_of(number, name)
            pieces += [(chunks, local[k : k + PIECE], places[k : k + PIECE]) for k in range(0, len(places), PIECE)]
        return pieces

    def _chunks_of(self, number: int, name: str) -> Chunks:
        if (number, name) not in self._chunks:
            shard = self.shard(number)
            with damage_named(shard.filename):
                self._chunks[number, name] = Chunks.of(shard[name])
        return self._chunks[number, name]


def _cells(shard: h5py.File | None) -> pd.DataFrame:
    """The small columns of a shard's cells (None: no rows)."""
    boxes = shard["boxes"][:] if shard else np.empty((0, 4), np.float32)
    columns: dict[str, Any] = {name: _texts(shard, name) for name in ("cell_id", "image_id", "domain", "label")}
    columns["score"] = shard["scores"][:] if shard else np.empty(0, np.float32)
    columns.update(zip(("x0", "y0", "x1", "y1"), boxes.T))
    return pd.DataFrame(columns)


def _images(shard: h5py.File | None) -> pd.DataFrame:
    """The rows of a shard's images (None: no rows)."""
    columns: dict[str, Any] = {}
    for name, dtype in IMAGE_COLUMNS.items():
        if dtype == "utf-8":
            columns[name] = _texts(shard, f"images/{name}")
        else:
            columns[name] = shard[f"images/{name}"][:] if shard else np.empty(0, dtype)
    return pd.DataFrame(columns)


def _texts(shard: h5py.File | None, name: str) -> pd.Series:
    return pd.Series(shard[name].asstr()[:] if shard else [], dtype=str)
