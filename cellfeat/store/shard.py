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
from cellfeat.store.schema import (
    FORMAT,
    IMAGES,
    METADATA,
    VERSION,
    Element,
    Layout,
    all_elements,
    image_elements,
    metadata_element,
)

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
        # Of each image: its rows of the small elements, and the number of cells up to and with it.
        self._images: list[tuple[dict[str, list[Any]], int]] = []
        self._metadata: dict[str, Element] = {}  # in the order in which images first had them
        self._chunks: dict[str, list[tuple[bytes, bool]]] = {name: [] for name in layout.arrays}

    @property
    def cells(self) -> int:
        return self._images[-1][1] if self._images else 0

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
        given = {**vars(image), "cells": cells}
        for element in image_elements():
            rows[element.name] = [given.get(element.name.removeprefix(IMAGES), element.default)]
        for name, text in image.metadata.items():
            rows[self._metadata.setdefault(name, metadata_element(name)).name] = [text]
        self._images.append((rows, start + cells))

    def finish(self) -> memoryview:
        """The bytes of the finished file. The builder is empty afterwards."""
        filters: dict[str, Any] = {"fletcher32": True}
        if self._gzip_level:
            filters |= {"shuffle": True, "compression": "gzip", "compression_opts": self._gzip_level}
        content = BytesIO()  # half the copying of HDF5's own files in memory
        with h5py.File(content, "w") as file:
            file.attrs.update(self._attributes)
            file.create_group(METADATA, track_order=True)  # whoever lists the columns finds them in our order
            for element in (*all_elements(), *self._metadata.values()):
                dataset = (self._write_array if element.is_array else self._write_column)(file, element, filters)
                dataset.attrs.update({"encoding": element.encoding, "encoding_version": element.encoding_version})
        return content.getbuffer()

    def _write_array(self, file: h5py.File, element: Element, filters: dict[str, Any]) -> h5py.Dataset:
        shape, dtype = self._layout.form(element)
        made = file.create_dataset(
            element.name, (self.cells, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape), **filters
        )
        origin = (0,) * len(shape)
        for row, (packed, gzipped) in enumerate(self._chunks.pop(element.name)[: self.cells]):
            made.id.write_direct_chunk((row, *origin), packed, NO_GZIP if self._gzip_level and not gzipped else 0)
        return made

    def _write_column(self, file: h5py.File, element: Element, filters: dict[str, Any]) -> h5py.Dataset:
        values = [value for rows, _ in self._images for value in rows.get(element.name, [element.default])]
        if element.is_text:  # variable-length strings lie in the heap, out of the filters' reach
            return file.create_dataset(element.name, (len(values),), h5py.string_dtype(), values)
        shape, dtype = self._layout.form(element)
        return file.create_dataset(
            element.name, data=np.array(values, dtype).reshape(-1, *shape), chunks=True, **filters
        )

    def _level(self, chunks: list[tuple[bytes, bool]]) -> int:
        """Level at which to try gzip on the next chunk: 0 where it did not pay for most of an array's first chunks."""
        first = [gzipped for _, gzipped in chunks[:TRIED]]
        return self._gzip_level if len(first) < TRIED or 2 * sum(first) >= TRIED else 0
