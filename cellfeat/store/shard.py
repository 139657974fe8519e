"""One shard being made: rows in, the bytes of a finished HDF5 file out."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat import __version__
from cellfeat.store.chunks import NO_GZIP, pack
from cellfeat.store.rows import ImageResult
from cellfeat.store.schema import CELL_COLUMNS, ENCODINGS, FORMAT, IMAGE_COLUMNS, TEXT_ENCODING, VERSION, Layout

TRIED = 16  # chunks of an array on which gzip is tried before it is given up for the rest of the shard


class ShardBuilder:
    """The open shard: chunks are packed image by image, the file is made of them at the end.

    The file is made in memory, because HDF5 crashes the process when it runs out of disk and is then asked to close the
    file; its bytes are written the plain way, where a full disk is an ordinary error.
    """

    def __init__(self, path: Path, layout: Layout, manifest: dict[str, Any], gzip_level: int) -> None:
        self.path = path
        self._layout = layout
        self._gzip_level = gzip_level
        self._attributes = {
            "format": FORMAT,
            "version": VERSION,
            "package_version": __version__,
            "provenance": json.dumps(manifest["provenance"], ensure_ascii=False),
        }
        # Of each image: its row, the small columns of its cells, the cells up to and with it.
        self._images: list[tuple[dict[str, Any], dict[str, list[Any]], int]] = []
        self._chunks: dict[str, list[tuple[bytes, bool]]] = {name: [] for name in layout.arrays}

    @property
    def cells(self) -> int:
        return self._images[-1][2] if self._images else 0

    @property
    def images(self) -> int:
        return len(self._images)

    def append(self, image: ImageResult, rows: dict[str, Any]) -> None:
        """Append one image and the columns of its cells as `rows_of` made them: all of it or, broken off, nothing."""
        start = self.cells
        for name, (_, dtype) in self._layout.arrays.items():
            chunks = self._chunks[name]
            del chunks[start:]  # of an image that was broken off
            for values in rows.pop(name):
                chunks.append(pack(np.ascontiguousarray(values, dtype), self._level(chunks)))
        cells = len(rows["cell_id"])
        self._images.append(({**vars(image), "cells": cells}, rows, start + cells))

    def finish(self) -> memoryview:
        """The bytes of the finished file. The builder is empty afterwards."""
        image_columns = {name: [row[name] for row, _, _ in self._images] for name in IMAGE_COLUMNS}
        cell_columns = {name: [value for _, rows, _ in self._images for value in rows[name]] for name in CELL_COLUMNS}
        filters: dict[str, Any] = {"fletcher32": True}
        if self._gzip_level:
            filters |= {"shuffle": True, "compression": "gzip", "compression_opts": self._gzip_level}
        content = BytesIO()  # half the copying of HDF5's own files in memory
        with h5py.File(content, "w") as file:
            file.attrs.update(self._attributes)
            for name, (shape, dtype) in self._layout.arrays.items():
                shape = (self.cells, *shape)
                made = file.create_dataset(
                    name, shape, dtype, maxshape=(None, *shape[1:]), chunks=(1, *shape[1:]), **filters
                )
                _say_encoding(made, name)
                origin = (0,) * len(shape[1:])
                for row, (packed, gzipped) in enumerate(self._chunks.pop(name)[: self.cells]):
                    mask = NO_GZIP if self._gzip_level and not gzipped else 0
                    made.id.write_direct_chunk((row, *origin), packed, mask)
            _write_columns(file, CELL_COLUMNS, cell_columns, filters)
            _write_columns(file.create_group("images"), IMAGE_COLUMNS, image_columns, filters)
        return content.getbuffer()

    def _level(self, chunks: list[tuple[bytes, bool]]) -> int:
        """Level at which to try gzip on the next chunk: 0 where it did not pay for most of an array's first chunks."""
        first = [gzipped for _, gzipped in chunks[:TRIED]]
        return self._gzip_level if len(first) < TRIED or 2 * sum(first) >= TRIED else 0


def _write_columns(group: h5py.Group, dtypes: dict[str, str], columns: dict[str, list[Any]], filters: dict) -> None:
    for name, dtype in dtypes.items():
        if dtype == "utf-8":  # variable-length strings lie in the heap, out of the filters' reach
            made = group.create_dataset(name, (len(columns[name]),), h5py.string_dtype(), columns[name])
        else:
            shape = (-1, 4) if name == "boxes" else (-1,)
            values = np.array(columns[name], dtype).reshape(shape)
            made = group.create_dataset(name, data=values, chunks=True, **filters)
        _say_encoding(made, name)


def _say_encoding(dataset: h5py.Dataset, name: str) -> None:
    encoding, version = ENCODINGS.get(name, TEXT_ENCODING)
    dataset.attrs.update({"encoding": encoding, "encoding_version": version})
