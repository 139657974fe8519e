"""One shard being made: rows in, the bytes of a finished HDF5 file out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat.core.version import __version__
from cellfeat.store.chunks import NO_GZIP, Chunks, Packed, pack
from cellfeat.store.index import Index
from cellfeat.store.rows import Block, ImageResult, cell_columns, image_row
from cellfeat.store.schema import (
    FORMAT,
    METADATA,
    VERSION,
    Element,
    Layout,
    all_elements,
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
        self._blocks: list[tuple[Block, int, int]] = []  # with the images and cells up to and with the block
        self._metadata: dict[str, Element] = {}  # in the order in which images first had them
        self._tried: dict[str, list[bool]] = {name: [] for name in layout.arrays}  # whether gzip paid, of first chunks

    @property
    def images(self) -> int:
        return self._blocks[-1][1] if self._blocks else 0

    @property
    def cells(self) -> int:
        return self._blocks[-1][2] if self._blocks else 0

    def append(self, image: ImageResult) -> None:
        """Append one image: all of it or, where a value is refused or packing is interrupted, nothing.

        Raises:
            CellfeatError: As `cell_columns`.
        """
        cells = cell_columns(image, self._layout)
        chunks = {
            name: self._packed(self._tried[name], cells.pop(name), dtype)
            for name, (_, dtype) in self._layout.arrays.items()
        }
        self.append_block(Block({name: [value] for name, value in image_row(image).items()}, cells, chunks))

    def append_block(self, block: Block) -> None:
        """Append images with cells that are packed already, of a layout like this one's."""
        for name in block.images:
            if name.startswith(METADATA):
                self._metadata.setdefault(name, metadata_element(name.removeprefix(METADATA)))
        for name, chunks in block.chunks.items():
            tried = self._tried[name]
            tried += [chunk.gzipped for chunk in chunks[: TRIED - len(tried)]]
        self._blocks.append((block, self.images + len(block), self.cells + int(block.ends[-1])))

    def finish(self) -> tuple[memoryview, Index]:
        """The bytes of the finished file, and what the index is to know of it. The builder is empty afterwards."""
        filters: dict[str, Any] = {"fletcher32": True}
        if self._gzip_level:
            filters |= {"shuffle": True, "compression": "gzip", "compression_opts": self._gzip_level}
        columns, arrays = {}, {}
        content = BytesIO()  # half the copying of HDF5's own files in memory
        with h5py.File(content, "w") as file:
            file.attrs.update(self._attributes)
            file.create_group(METADATA, track_order=True)  # whoever lists the columns finds them in our order
            for element in (*all_elements(), *self._metadata.values()):
                if element.is_array:
                    dataset = self._write_array(file, element, filters)
                    arrays[element.name] = Chunks.of(dataset)
                else:
                    columns[element.name] = self._column(element)
                    dataset = _write_column(file, element, columns[element.name], filters)
                dataset.attrs.update({"encoding": element.encoding, "encoding_version": element.encoding_version})
        written = content.getbuffer()
        owner = np.repeat(np.arange(self.images), columns["images/cells"])
        return written, Index.of_shard(hashlib.sha256(written).hexdigest(), len(written), columns, owner, arrays)

    def _write_array(self, file: h5py.File, element: Element, filters: dict[str, Any]) -> h5py.Dataset:
        shape, dtype = self._layout.form(element)
        made = file.create_dataset(
            element.name, (self.cells, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape), **filters
        )
        origin = (0,) * len(shape)
        chunks = (chunk for block, _, _ in self._blocks for chunk in block.chunks.pop(element.name))
        for row, (stored, gzipped) in enumerate(chunks):
            made.id.write_direct_chunk((row, *origin), stored, NO_GZIP if self._gzip_level and not gzipped else 0)
        return made

    def _column(self, element: Element) -> np.ndarray:
        """The rows of a small element."""
        values = list(chain.from_iterable(_rows(block, element) for block, _, _ in self._blocks))
        shape, dtype = self._layout.form(element)
        return np.array(values, object if element.is_text else dtype).reshape(-1, *shape)

    def _packed(self, tried: list[bool], rows: Iterable[np.ndarray], dtype: str) -> list[Packed]:
        """Pack chunks. Gzip is given up where it did not pay for most of an array's first chunks."""
        tried, chunks = list(tried), []
        for values in rows:
            level = self._gzip_level if len(tried) < TRIED or 2 * sum(tried) >= TRIED else 0
            chunks.append(pack(np.ascontiguousarray(values, dtype), level))
            if len(tried) < TRIED:
                tried.append(chunks[-1].gzipped)
        return chunks


def _write_column(file: h5py.File, element: Element, values: np.ndarray, filters: dict[str, Any]) -> h5py.Dataset:
    if element.is_text:  # variable-length strings lie in the heap, out of the filters' reach
        return file.create_dataset(element.name, values.shape, h5py.string_dtype(), values)
    return file.create_dataset(element.name, data=values, chunks=True, **filters)


def _rows(block: Block, element: Element) -> Iterable[Any]:
    """The rows of a small element in one block."""
    columns = block.images if element.of_image else block.cells
    return columns[element.name] if element.name in columns else element.rows(len(block))
