"""The sidecar index of a store: small columns of all shards, and where the chunks of their large arrays lie.

Opening and checking an HDF5 shard costs tens of milliseconds, a minute for a thousand shards in every process. The
index is one file beside the manifest, `.index.npz`: plain arrays (npz without compression and without pickles), which
any process reads in a second. It is bound to the shards by their digests in the manifest and by the sizes of their
files. An index that does not fit is not used; `indexing` makes it again.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import atomic_path
from cellfeat.errors import CellfeatError
from cellfeat.store.chunks import PIPELINE, Chunks
from cellfeat.store.guard import check_memory
from cellfeat.store.schema import IMAGES, MAX_CELL_BYTES, METADATA, all_elements, metadata_element

INDEX = ".index.npz"
VERSION = 1
CHUNK = np.dtype([("address", "<i8"), ("size", "<i4"), ("mask", "u1")])
COUNTS = np.dtype([("bytes", "<i8"), ("cells", "<i8"), ("images", "<i8")])
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    CellfeatError,
)


@dataclass
class Texts:
    """A column of texts that are made when they are asked for: processes that read features alone never do.

    Attributes:
        joined: uint8, the different texts as utf-8 with a NUL between two.
        codes: (n,) int32, the text of each row.
    """

    joined: np.ndarray
    codes: np.ndarray
    dtype = np.dtype(object)

    @classmethod
    def of(cls, values: np.ndarray) -> Texts:
        """The texts (n,) of object; no text of a store has a NUL."""
        codes, texts = pd.factorize(values)
        return cls(np.frombuffer("\0".join(texts).encode(), np.uint8), codes.astype(np.int32))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @cached_property
    def different(self) -> np.ndarray:
        return np.array(self.joined.tobytes().decode().split("\0"), object)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.different[self.codes[rows]]


@dataclass
class Index:
    """What is known of the shards of a store, or of one of them, without opening it.

    Attributes:
        digests: (s,) str, sha256 of each shard's file, as the manifest has it.
        counts: (s,) of `COUNTS`: each shard's bytes, cells and images.
        cells: Small element of cells, or metadata of the cell's image → (n, ...) values, an array or `Texts`.
        images: Element of images → (m, ...) values, an array or `Texts`.
        chunks: Large array → (n,) of `CHUNK`: where the chunk of each cell lies in its shard.
        filters: Large array → (s, 3) int64: the filters of each shard's dataset, then zeros.
    """

    digests: np.ndarray
    counts: np.ndarray
    cells: dict[str, Any]
    images: dict[str, Any]
    chunks: dict[str, np.ndarray]
    filters: dict[str, np.ndarray]

    @classmethod
    def of_shard(
        cls,
        digest: str,
        size: int,
        columns: Mapping[str, np.ndarray],
        owner: np.ndarray,
        arrays: Mapping[str, Chunks],
    ) -> Index:
        """What is to be known of one shard.

        Args:
            digest: sha256 of its file.
            size: Bytes of its file.
            columns: Small element of cells or of images → all its rows in the shard.
            owner: (n,) for each cell, the row of its image in the shard.
            arrays: Large array → its chunks.
        """
        images = {name: values for name, values in columns.items() if name.startswith(IMAGES)}
        cells = {name: values for name, values in columns.items() if name not in images}
        counts = np.array([(size, len(cells["cell_id"]), len(images["images/image_id"]))], COUNTS)
        cells |= {name: values[owner] for name, values in images.items() if name.startswith(METADATA)}
        chunks, filters = {}, {}
        for name, found in arrays.items():
            chunks[name] = np.zeros(len(found.address), CHUNK)
            for field in ("address", "size", "mask"):
                chunks[name][field] = getattr(found, field)
            filters[name] = np.zeros((1, len(PIPELINE)), np.int64)
            filters[name][0, : len(found.filters)] = found.filters
        return cls(np.array([digest]), counts, cells, images, chunks, filters)

    def small(self) -> Index:
        """The same in less memory: of each text one copy, as utf-8."""

        def coded(columns: dict[str, Any]) -> dict[str, Any]:
            return {name: Texts.of(values) if values.dtype == object else values for name, values in columns.items()}

        return replace(self, cells=coded(self.cells), images=coded(self.images))

    def part(self, number: int) -> Index:
        """What is known of one shard."""
        one, cells, images = slice(number, number + 1), self._rows("cells", number), self._rows("images", number)
        return Index(
            self.digests[one],
            self.counts[one],
            {name: values[cells] for name, values in self.cells.items()},
            {name: values[images] for name, values in self.images.items()},
            {name: values[cells] for name, values in self.chunks.items()},
            {name: values[one] for name, values in self.filters.items()},
        )

    def equals(self, shard: Index) -> bool:
        """Whether this part says of one shard what the shard itself does; other metadata must be empty texts."""
        for group in ("cells", "images", "chunks", "filters"):
            mine, its = getattr(self, group), getattr(shard, group)
            if its.keys() - mine.keys():
                return False
            for name, values in mine.items():
                same = np.array_equal(values, its[name]) if name in its else (values == "").all()
                if not same:
                    return False
        return True

    def chunks_of(self, path: Path, number: int, name: str) -> Chunks:
        """The chunks of one array of one shard, whose file is `path`."""
        found = self.chunks[name][self._rows("cells", number)]
        filters = tuple(int(code) for code in self.filters[name][number] if code)
        return Chunks(path, name, filters, found["address"], found["size"], found["mask"])

    def _rows(self, what: str, number: int) -> slice:
        end = int(self.counts[what][: number + 1].sum())
        return slice(end - int(self.counts[what][number]), end)


def read_index(store: Path, entries: Sequence[dict[str, Any]]) -> Index | None:
    """The index of a store, if it has one that fits the shards that its manifest lists."""
    index = stored_index(store)
    if index is None or index.digests.tolist() != [entry["sha256"] for entry in entries]:
        return None
    for key in ("cells", "images"):
        if index.counts[key].tolist() != [entry[key] for entry in entries]:
            return None
    return index if index.counts["bytes"].tolist() == [size_of(store, entry) for entry in entries] else None


def size_of(store: Path, entry: dict[str, Any]) -> int:
    """Bytes of the file of a shard that the manifest lists, -1 where it is missing."""
    try:
        return (store / entry["file"]).stat().st_size
    except OSError:
        return -1


def write_index(store: Path, index: Index) -> None:
    """Store an index, where the disk allows it: the store is whole without."""
    members: dict[str, np.ndarray] = {"version": np.array(VERSION), "digests": index.digests, "counts": index.counts}
    for group in ("cells", "images", "chunks", "filters"):
        for name, values in getattr(index, group).items():
            if values.dtype == object:
                texts = values if isinstance(values, Texts) else Texts.of(values)
                if np.count_nonzero(texts.joined == 0) != texts.codes.max(initial=0):  # a forged text has a NUL
                    return
                members[f"{group}.{name}.texts"], members[f"{group}.{name}.codes"] = texts.joined, texts.codes
            else:
                members[f"{group}.{name}"] = values
    with suppress(OSError), atomic_path(store / INDEX) as partial, open(partial, "wb") as file:
        np.savez(file, **members)  # type: ignore[arg-type]


def stored_index(store: Path) -> Index | None:
    """The index in a store's folder, of whatever shards; None where there is none that can be read."""
    path = store / INDEX
    if not path.is_file() or path.is_symlink():
        return None
    try:
        check_memory(f"{path}", path.stat().st_size)
        with np.load(path, allow_pickle=False) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.zip.infolist()):
                return None
            if file["version"].item() != VERSION:
                return None
            return _of_members({name: file[name] for name in file.files})
    except UNREADABLE:
        return None


def _of_members(members: dict[str, np.ndarray]) -> Index:
    """The index in the members of its file.

    Raises:
        ValueError, KeyError: It is none.
    """
    groups: dict[str, dict[str, Any]] = {"cells": {}, "images": {}, "chunks": {}, "filters": {}}
    for member, values in members.items():
        group, _, name = member.partition(".")
        if name.endswith(".codes"):
            joined = members[member.removesuffix("codes") + "texts"]
            known = np.count_nonzero(joined == 0) + 1
            if (
                values.ndim != 1
                or values.dtype != np.int32
                or (len(values) and not 0 <= values.min() <= values.max() < known)
            ):
                raise ValueError("codes without texts")
            groups[group][name.removesuffix(".codes")] = Texts(joined, values)
        elif group in groups and not name.endswith(".texts"):
            groups[group][name] = values
    digests, counts = members["digests"], members["counts"]
    if counts.dtype != COUNTS or counts.shape != digests.shape or digests.dtype.kind != "U":
        raise ValueError("counts of another form")
    index = Index(digests, counts, **groups)
    _check(index)
    return index


def _check(index: Index) -> None:
    """Every column has the dtype of its element and a row for each cell, image or shard.

    Raises:
        ValueError: It has not.
    """
    elements = {each.name: each for each in all_elements()}
    rows = {"cells": int(index.counts["cells"].sum()), "images": int(index.counts["images"].sum())}
    for group, count in rows.items():
        for name, values in getattr(index, group).items():
            each = elements.get(name) or metadata_element(name.removeprefix(METADATA))
            dtype = np.dtype(object if each.is_text else each.dtype)
            if values.dtype != dtype or values.shape != (count, *each.shape):
                raise ValueError(f"{name} of another form")
        wanted = {e.name for e in elements.values() if not e.is_array and e.of_image == (group == "images")}
        if not wanted <= getattr(index, group).keys():
            raise ValueError(f"lacks {group}")
    for name in (each.name for each in elements.values() if each.is_array):
        if index.chunks[name].dtype != CHUNK or index.chunks[name].shape != (rows["cells"],):
            raise ValueError(f"chunks of {name} of another form")
        if (index.chunks[name]["size"] > 2 * MAX_CELL_BYTES).any():
            raise ValueError(f"chunks of {name} larger than a cell may be")
        if index.filters[name].dtype != np.int64 or index.filters[name].shape != (len(index.digests), len(PIPELINE)):
            raise ValueError(f"filters of {name} of another form")


def joined(parts: Sequence[Index]) -> Index:
    """One index of several shards; metadata that a shard lacks are empty texts there."""

    def columns(group: str) -> dict[str, np.ndarray]:
        of_images = group == "images"
        elements = {e.name: e for e in all_elements() if not e.is_array and e.of_image == of_images}
        for part in parts:
            elements |= {
                n: metadata_element(n.removeprefix(METADATA)) for n in getattr(part, group) if n not in elements
            }
        empty: dict[str, Any] = {name: [each.rows(0)] for name, each in elements.items()}
        for part in parts:
            found, count = getattr(part, group), int(part.counts[group].sum())
            for name, each in elements.items():
                empty[name].append(found[name] if name in found else each.rows(count))
        return {name: np.concatenate(values) for name, values in empty.items()}

    arrays = [each.name for each in all_elements() if each.is_array]
    return Index(
        np.concatenate([np.empty(0, "U64"), *(part.digests for part in parts)]),
        np.concatenate([np.empty(0, COUNTS), *(part.counts for part in parts)]),
        columns("cells"),
        columns("images"),
        {name: np.concatenate([np.empty(0, CHUNK), *(part.chunks[name] for part in parts)]) for name in arrays},
        {
            name: np.concatenate([np.empty((0, len(PIPELINE)), np.int64), *(part.filters[name] for part in parts)])
            for name in arrays
        },
    )
