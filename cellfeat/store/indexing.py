"""The columns of a whole store at once: from its index, or from the shards, of which the index is then made."""

from __future__ import annotations

import numpy as np

from cellfeat.store.chunks import PIPELINE
from cellfeat.store.index import CHUNK, COUNTS, Index, joined, size_of, stored_index, write_index
from cellfeat.store.shards import Shards

# Shards from which on a store has an index. Opening fewer takes less than a second (20 to 40 ms each).
INDEXED = 16


def all_columns(shards: Shards) -> Index:
    """The index of a store. Where there is none that fits it is made from the shards, kept and stored.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    index = shards.index
    if index is None:
        shards.index = index = build_index(shards)
        if len(shards) >= INDEXED:
            write_index(shards.path, index)
    return index


def store_index(shards: Shards) -> None:
    """Make and store the index of a store of many shards.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    if len(shards) >= INDEXED:
        write_index(shards.path, build_index(shards))


def columns_of(shards: Shards, number: int) -> Index:
    """What the index knows of one shard, or would know where there is none.

    Raises:
        CellfeatError: The shard is missing or damaged.
    """
    return read_shard(shards, number) if shards.index is None else shards.index.part(number)


def build_index(shards: Shards) -> Index:
    """The index of a store: of shards that a stored index knows from it, of the others from their files.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    old = stored_index(shards.path)
    known = {} if old is None else {digest: number for number, digest in enumerate(old.digests.tolist())}
    parts: list[Index | None] = []
    for entry in shards.manifest["shards"]:
        part = old.part(known[entry["sha256"]]) if old is not None and entry["sha256"] in known else None
        parts.append(part if part is not None and part.counts["bytes"][0] == size_of(shards.path, entry) else None)
    shards.look_at(number for number, part in enumerate(parts) if part is None)
    return joined([read_shard(shards, number) if part is None else part for number, part in enumerate(parts)])


def read_shard(shards: Shards, number: int) -> Index:
    """What the index is to know of one shard, read from its file.

    Raises:
        CellfeatError: The shard is missing or damaged.
    """
    entry, elements = shards.manifest["shards"][number], shards.elements(number)
    cells = {each.name: shards.column(number, each) for each in elements if not (each.of_image or each.is_array)}
    images = {each.name: shards.column(number, each) for each in elements if each.of_image}
    if metadata := [each.name for each in elements if each.is_metadata]:
        owner = shards.images_of_cells(number)
        cells |= {name: images[name][owner] for name in metadata}
    chunks, filters = {}, {}
    for name in shards.layout.arrays:
        found = shards.read_chunks(number, name)
        chunks[name] = np.zeros(len(found.address), CHUNK)
        for field in ("address", "size", "mask"):
            chunks[name][field] = getattr(found, field)
        filters[name] = np.zeros((1, len(PIPELINE)), np.int64)
        filters[name][0, : len(found.filters)] = found.filters
    counts = np.array([(size_of(shards.path, entry), entry["cells"], entry["images"])], COUNTS)
    return Index(np.array([entry["sha256"]]), counts, cells, images, chunks, filters)
