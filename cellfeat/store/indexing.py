"""The columns of a whole store at once: from its index, or from the shards, of which the index is then made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellfeat.store.index import Index, joined, size_of, stored_index, write_index
from cellfeat.store.shards import Shards, owners

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


def store_index(shards: Shards, written: Mapping[str, Index] | None = None) -> None:
    """Make and store the index of a store of many shards; arguments and errors as of `build_index`."""
    if len(shards) >= INDEXED:
        write_index(shards.path, build_index(shards, written))


def columns_of(shards: Shards, number: int) -> Index:
    """What the index knows of one shard, or would know where there is none.

    Raises:
        CellfeatError: The shard is missing or damaged.
    """
    return read_shard(shards, number) if shards.index is None else shards.index.part(number)


def build_index(shards: Shards, written: Mapping[str, Index] | None = None) -> Index:
    """The index of a store: of shards that a stored index knows from it, of the others from their files.

    Args:
        shards: Of the store.
        written: What is known of shards that this process has just written, by their digests.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    old, fresh = stored_index(shards.path), written or {}
    places = {} if old is None else {digest: number for number, digest in enumerate(old.digests.tolist())}

    def known(entry: dict[str, Any]) -> Index | None:
        digest = entry["sha256"]
        if digest in fresh:
            part = fresh[digest].part(0)
        elif old is not None and digest in places:
            part = old.part(places[digest])
        else:
            return None
        return part if part.counts["bytes"][0] == size_of(shards.path, entry) else None

    parts = [known(entry) for entry in shards.manifest["shards"]]
    shards.look_at(number for number, part in enumerate(parts) if part is None)
    return joined([read_shard(shards, number) if part is None else part for number, part in enumerate(parts)])


def read_shard(shards: Shards, number: int) -> Index:
    """What the index is to know of one shard, read from its file.

    Raises:
        CellfeatError: The shard is missing or damaged.
    """
    entry, elements = shards.manifest["shards"][number], shards.elements(number)
    columns = {each.name: shards.column(number, each) for each in elements if not each.is_array}
    owner = np.empty(0, np.int64)
    if any(each.is_metadata for each in elements):
        owner = owners(columns["image_id"], columns["images/image_id"], shards.file(number))
    arrays = {name: shards.read_chunks(number, name) for name in shards.layout.arrays}
    return Index.of_shard(entry["sha256"], size_of(shards.path, entry), columns, owner, arrays)
