"""Stores made of stores: a part of one (`subset`), several as one (`merge`). Rows and names are kept as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store
from cellfeat.store.rows import ImageResult
from cellfeat.store.schema import cell_elements, element
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
    images = store.images()
    metadata = {name: images[name].tolist() for name in store.metadata}
    kept = _rows_by_image(store, rows)
    wanted = [
        (image, kept.get(image.image_id, np.empty(0, np.int64)))
        for image in images.drop(columns=store.metadata).itertuples()
        if image.image_id not in writer.done
        and (image.image_id in kept or (not image.cells and image.domain in empty_domains))
    ]
    with tqdm(total=len(wanted), desc=f"copy {store.path.name}", unit="image", disable=None) as progress:
        for block in _blocks(wanted):
            columns = {
                element.name: store.shards.read(element, np.concatenate([cells for _, cells in block]))
                for element in cell_elements()
            }
            start = 0
            for image, cells in block:
                part = slice(start, start + len(cells))
                result = ImageResult(
                    image.image_id,
                    image.domain,
                    image.label,
                    image.width,
                    image.height,
                    image.reason,
                    metadata={name: texts[image.Index] for name, texts in metadata.items()},
                )
                writer.add_rows(result, {name: list(values[part]) for name, values in columns.items()})
                start += len(cells)
                progress.update()


def _rows_by_image(store: Store, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each image, ascending."""
    rows = np.sort(rows)
    names = store.shards.read(element("image_id"), rows)
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
    return {names[part[0]]: rows[part] for part in np.split(order, starts) if len(part)}


def _blocks(wanted: list[tuple[Any, np.ndarray]]) -> Iterator[list[tuple[Any, np.ndarray]]]:
    """Neighbouring images in blocks of about `BLOCK` cells: what is read at a time."""
    block: list[tuple[Any, np.ndarray]] = []
    cells = 0
    for image in wanted:
        block.append(image)
        cells += len(image[1])
        if cells >= BLOCK:
            yield block
            block, cells = [], 0
    if block:
        yield block
