"""Stores made of stores: a part of one (`subset`), several as one (`merge`). Rows and names are kept as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.core.progress import Progress
from cellfeat.data.class_tree import joined_classes
from cellfeat.errors import CellfeatError
from cellfeat.store.carry import carry_into_merged, carry_into_subset
from cellfeat.store.indexing import columns_of
from cellfeat.store.reader import Store
from cellfeat.store.rows import Block
from cellfeat.store.schema import cell_elements
from cellfeat.store.shards import Shards, owners
from cellfeat.store.writer import StoreWriter

BLOCK = 256  # cells copied at a time


def subset(
    store: Store,
    output: str | Path,
    domain: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    score: float | None = None,
) -> Store:
    """Write the cells that pass `Store.select`'s filters into a new store; run again, it goes on.

    Images of the domains stay, also those without a cell. With a label or a score asked for, images of which no cell
    stays are left out, so that the subset's detection rate is not that of the dump. Embeddings in the folder
    `embeddings` of the store go along.

    Raises:
        CellfeatError: No cell passes, or `output` is another store.
    """
    rows = store.select(domain, label, score)
    if not len(rows):
        raise CellfeatError(f"{store.path}: no cell passes these filters; loosen them")
    filters = {"domain": domain, "label": label, "score": score}
    provenance = {
        "subset_of": store.digest,
        "filters": {
            name: value if value is None or isinstance(value, (str, float, int)) else list(value)
            for name, value in filters.items()
        },
        "provenance": store.provenance,
    }
    domains = set(store.images()["domain"]) if domain is None else {domain} if isinstance(domain, str) else set(domain)
    with _writer_like(store, output, provenance) as writer:
        _copy(
            store, writer, np.isin(np.arange(len(store)), rows), domains if label is None and score is None else set()
        )
    part = Store(output)
    carry_into_subset(store, part)
    return part


def merge(stores: Sequence[Store], output: str | Path) -> Store:
    """Write several stores of one layout into a new one, in their order; run again, it goes on.

    Embeddings in the folders `embeddings` go along where all stores have them; see `carry_into_merged`.

    Raises:
        CellfeatError: Another layout, an image that two of them have, a class whose parents contradict each other, or
            `output` is another store.
    """
    if not stores:
        raise CellfeatError("nothing to merge; give at least one store")
    first = stores[0]
    owner: dict[str, Path] = {}
    for store in stores:
        for what in ("feature_shape", "feature_dtype", "crop_size"):
            here, there = getattr(store.layout, what), getattr(first.layout, what)
            if here != there:
                raise CellfeatError(f"{store.path}: its {what} is {here}, that of {first.path} {there}; dump alike")
        for image_id in store.images()["image_id"]:
            if image_id in owner:
                raise CellfeatError(
                    f"image {image_id!r} is in {owner[image_id]} and in {store.path}; take a subset of one"
                )
            owner[image_id] = store.path
    joined_classes({str(store.path): store.classes for store in stores})  # contradictions are said before any work
    provenance = {"merged": [{"digest": store.digest, "provenance": store.provenance} for store in stores]}
    with _writer_like(first, output, provenance) as writer:
        for store in stores:
            _copy(store, writer, np.ones(len(store), bool), set(store.images()["domain"]))
    merged = Store(output)
    carry_into_merged(stores, merged)
    return merged


def _writer_like(store: Store, output: str | Path, provenance: dict[str, Any]) -> StoreWriter:
    layout = store.layout
    return StoreWriter(output, layout.feature_shape, layout.crop_size, provenance, layout.feature_dtype)


def _copy(store: Store, writer: StoreWriter, keep: np.ndarray, empty_domains: set[str]) -> None:
    """Copy cells with their images, shard by shard, the large arrays packed as they are.

    Args:
        store: The source.
        writer: Of a store of the same layout; images that it has are left out.
        keep: (n,) bool, the cells to copy.
        empty_domains: Images without a cell are copied if they are of one of these.
    """
    shards = store.shards
    with Progress(total=int(keep.sum()), desc=f"copy {store.path.name}", unit="cell") as progress:
        for number, end in enumerate(shards.ends.tolist()):
            kept = np.flatnonzero(keep[end - shards.manifest["shards"][number]["cells"] : end])
            for block in _blocks(shards, number, kept, writer.done, empty_domains):
                writer.add_block(block)
                progress.update(int(block.ends[-1]))


def _blocks(shards: Shards, number: int, cells: np.ndarray, done: set[str], empty_domains: set[str]) -> Iterator[Block]:
    """The images of one shard that are to be copied, about `BLOCK` cells at a time.

    Args:
        cells: (k,) rows of the shard to copy, ascending.
    """
    known = columns_of(shards, number)
    of_images = dict(known.images)
    of_cells = {each.name: known.cells[each.name][cells] for each in cell_elements() if not each.is_array}
    owner = owners(known.cells["image_id"][cells], of_images["images/image_id"], shards.file(number))
    counts = np.bincount(owner, minlength=len(of_images["images/image_id"]))
    images = np.flatnonzero(
        [
            name not in done and (count > 0 or (not had and domain in empty_domains))
            for name, count, had, domain in zip(
                of_images["images/image_id"], counts, of_images["images/cells"], of_images["images/domain"]
            )
        ]
    )
    of_images["images/cells"] = counts.astype(of_images["images/cells"].dtype)
    order = np.argsort(owner, kind="stable")  # the cells by image
    ends = np.cumsum(counts)
    for part in np.split(images, np.flatnonzero(np.diff(np.cumsum(counts[images]) // BLOCK)) + 1):
        if len(part):
            rows = np.concatenate([order[ends[image] - counts[image] : ends[image]] for image in part])
            yield Block(
                {name: values[part] for name, values in of_images.items()},
                {name: values[rows] for name, values in of_cells.items()},
                {name: shards.packed(number, name, cells[rows]) for name in shards.layout.arrays},
            )
