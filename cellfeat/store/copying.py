"""Stores made of stores: a part of one (`subset`), several as one (`merge`). Rows and names are kept as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store
from cellfeat.store.rows import ImageResult
from cellfeat.store.writer import StoreWriter


def subset(
    store: Store,
    output: str | Path,
    domain: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    score: float | None = None,
) -> Store:
    """Write the cells that pass `Store.select`'s filters into a new store; run again, it goes on.

    Images of the domains stay, also those without a cell. With a label or a score asked for, images of which no cell
    stays are left out, so that the subset's detection rate is not that of the dump.

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
        _copy(store, writer, rows, domains if label is None and score is None else set())
    return Store(output)


def merge(stores: Sequence[Store], output: str | Path) -> Store:
    """Write several stores of one layout into a new one, in their order; run again, it goes on.

    Raises:
        CellfeatError: Another layout, or an image that two of them have, or `output` is another store.
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
    provenance = {"merged": [{"digest": store.digest, "provenance": store.provenance} for store in stores]}
    with _writer_like(first, output, provenance) as writer:
        for store in stores:
            _copy(store, writer, np.arange(len(store)), set(store.images()["domain"]))
    return Store(output)


def _writer_like(store: Store, output: str | Path, provenance: dict[str, Any]) -> StoreWriter:
    layout = store.layout
    return StoreWriter(output, layout.feature_shape, layout.crop_size, provenance, layout.feature_dtype)


def _copy(store: Store, writer: StoreWriter, rows: np.ndarray, empty_domains: set[str]) -> None:
    """Copy the cells of `rows` with their images, and images without cells where their domain is to stay."""
    table = store.table()
    kept = {name: np.sort(rows[places]) for name, places in table.iloc[rows].groupby("image_id").indices.items()}
    for image in tqdm(store.images().itertuples(), desc=f"copy {store.path.name}", unit="image", disable=None):
        cells = kept.get(image.image_id, np.empty(0, np.int64))
        if image.image_id in writer.done or (not len(cells) and (image.cells or image.domain not in empty_domains)):
            continue
        columns = {name: store.read(name, cells) for name in ("features", "crops", "masks", "boxes", "scores")}
        names = {name: table[name].iloc[cells].tolist() for name in ("cell_id", "image_id", "domain", "label")}
        result = ImageResult(image.image_id, image.domain, image.label, image.width, image.height, image.reason)
        writer.add_rows(result, {**columns, **names})
