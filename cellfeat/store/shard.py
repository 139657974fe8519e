"""One shard being made: rows in, the bytes of a finished HDF5 file out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat import __version__
from cellfeat.store.rows import ImageResult
from cellfeat.store.schema import CELL_COLUMNS, ENCODINGS, FORMAT, IMAGE_COLUMNS, TEXT_ENCODING, VERSION, Layout


class ShardBuilder:
    """The open shard: arrays go to an HDF5 file image by image, the small columns at the end.

    The file is in memory until it is finished, because HDF5 crashes the process when it runs out of disk and is
    then asked to close the file; its bytes are written the plain way, where a full disk is an ordinary error.
    """

    def __init__(self, path: Path, layout: Layout, manifest: dict[str, Any], gzip_level: int) -> None:
        self.path = path
        # Of each image: its row, the small columns of its cells, the cells up to and with it.
        self._images: list[tuple[dict[str, Any], dict[str, list[Any]], int]] = []
        self._filters: dict[str, Any] = {"shuffle": True, "fletcher32": True}
        if gzip_level:
            self._filters |= {"compression": "gzip", "compression_opts": gzip_level}
        name = f"{path}.{id(self)}"  # of no file: HDF5 tells files in memory apart by their names
        self._file = h5py.File(name, "w", driver="core", backing_store=False, block_size=1 << 24, rdcc_nbytes=0)
        self._file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "package_version": __version__,
                "provenance": json.dumps(manifest["provenance"], ensure_ascii=False),
            }
        )
        self._arrays = {
            name: self._file.create_dataset(
                name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape), **self._filters
            )
            for name, (shape, dtype) in layout.arrays.items()
        }
        for name, array in self._arrays.items():
            _say_encoding(array, name)

    @property
    def cells(self) -> int:
        return self._images[-1][2] if self._images else 0

    @property
    def images(self) -> int:
        return len(self._images)

    def append(self, image: ImageResult, rows: dict[str, Any]) -> None:
        """Append one image and the columns of its cells as `rows_of` made them.

        If it is broken off halfway, what it left in the arrays lies beyond `cells` and is cut off.
        """
        start, end = self.cells, self.cells + len(rows["cell_id"])
        for name, array in self._arrays.items():
            values = rows.pop(name)
            if len(values):
                array.resize(end, axis=0)
                array[start:end] = values
        self._images.append(({**vars(image), "cells": end - start}, rows, end))

    def finish(self) -> bytes:
        """Write the small columns, close the file and return its bytes."""
        image_columns = {name: [row[name] for row, _, _ in self._images] for name in IMAGE_COLUMNS}
        cell_columns = {name: [value for _, rows, _ in self._images for value in rows[name]] for name in CELL_COLUMNS}
        with self._file:
            for array in self._arrays.values():
                array.resize(self.cells, axis=0)
            _write_columns(self._file, CELL_COLUMNS, cell_columns, self._filters)
            _write_columns(self._file.create_group("images"), IMAGE_COLUMNS, image_columns, self._filters)
            self._file.flush()
            return self._file.id.get_file_image()


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
