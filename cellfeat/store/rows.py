"""The rows that go into a store: what a caller gives, and the checks that keep bad values out of immutable shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.store.chunks import Packed
from cellfeat.store.schema import (
    IMAGES,
    Element,
    Layout,
    box_fits,
    cell_elements,
    finite,
    image_elements,
    is_text,
    metadata_element,
)


@dataclass
class CellRow:
    """One cell as the detector found it.

    Attributes:
        feature: (C, H, W) float, ROI-pooled feature; finite.
        crop: (S, S, 3) uint8 RGB, the box plus a symmetric margin made square, resized to S px.
        mask: (S, S) uint8 or bool, 0 or 1, the instance in the crop's frame.
        box: (4,) float XYXY in px of the original image.
        score: Detection confidence.
        label: Class of the vocabulary, "" where unknown.
        further: Values of further elements of the schema, by name.
    """

    feature: np.ndarray
    crop: np.ndarray
    mask: np.ndarray
    box: np.ndarray
    score: float
    label: str = ""
    further: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ImageResult:
    """What became of one image: its cells in any order (none is a result too), or the reason why it could not be read.

    Attributes:
        image_id: Unique in the store.
        domain: Name of the site that the image comes from.
        label: Class of the whole image, "" where unknown.
        width: Width of the original image in px, 0 if unreadable.
        height: Height of the original image in px, 0 if unreadable.
        reason: Why the image could not be read; "" for a readable one.
        cells: The cells found.
        metadata: Texts under names of the dataset's own: `group` (the patient), slide, stain ...
        tile_of: Id of the field or slide that the image is a tile of, "" where it is a whole image.
        tile_x: Left edge of the tile, px of the field or slide.
        tile_y: Top edge of the tile, px of the field or slide.
    """

    image_id: str
    domain: str
    label: str
    width: int
    height: int
    reason: str = ""
    cells: list[CellRow] = field(default_factory=list)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tile_of: str = ""
    tile_x: int = 0
    tile_y: int = 0


@dataclass
class Block:
    """Neighbouring images with all their cells, in columns as a shard has them.

    Attributes:
        images: Element of images, metadata included → m values. `images/cells` counts the cells of each image.
        cells: Small element of cells → n values, in the order of the images.
        chunks: Large array → n packed chunks.
    """

    images: dict[str, Any]
    cells: dict[str, Any]
    chunks: dict[str, list[Packed]]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images["images/image_id"])

    @property
    def ends(self) -> np.ndarray:
        """(m,) int64: for each image, the number of cells up to and with it."""
        return np.cumsum(self.images["images/cells"], dtype=np.int64)

    def part(self, start: int, stop: int) -> Block:
        """The images from `start` to before `stop`."""
        ends = [0, *self.ends[:stop].tolist()]
        cells = slice(ends[start], ends[-1])
        return Block(
            {name: values[start:stop] for name, values in self.images.items()},
            {name: values[cells] for name, values in self.cells.items()},
            {name: chunks[cells] for name, chunks in self.chunks.items()},
        )


def image_row(image: ImageResult) -> dict[str, Any]:
    """The value of an image in each element of images, metadata included."""
    given = {**vars(image), "cells": len(image.cells)}
    row = {element.name: given.get(element.name.removeprefix(IMAGES), element.default) for element in image_elements()}
    return row | {metadata_element(name).name: text for name, text in image.metadata.items()}


def cell_columns(image: ImageResult, layout: Layout) -> dict[str, list[Any]]:
    """The columns of one image's cells, by descending score, checked and in the store's dtypes.

    Raises:
        CellfeatError: A value that the store must not hold; names the image or the cell.
    """
    what = f"image {image.image_id!r}"
    for text in (image.image_id, image.domain, image.label, image.reason, image.tile_of):
        _check_text(text, what)
    for name, text in image.metadata.items():
        metadata_element(name)
        _check_text(text, f"{what}: its {name}")
    if not image.image_id:
        raise CellfeatError("an image has an empty image_id; give every image an id of its own")
    if image.reason and image.cells:
        raise CellfeatError(f"{what} has both cells and a reason why it could not be read; give one of the two")
    if min(image.width, image.height) < (0 if image.reason else 1):
        raise CellfeatError(f"{what} is {image.width} x {image.height} px; give the size of the original image")
    cells = sorted(image.cells, key=lambda cell: -cell.score)
    names = [f"{image.image_id}#{k}" for k in range(len(cells))]
    given = [_given(name, cell, image) for name, cell in zip(names, cells)]
    for name, cell in zip(names, cells):
        if unknown := cell.further.keys() - {element.name for element in cell_elements()}:
            raise CellfeatError(f"cell {name!r}: {min(unknown)!r} is no element of a store; leave it out")
    rows = {
        element.name: [_row(f"cell {values['cell_id']!r}", values[element.name], element, layout) for values in given]
        for element in cell_elements()
    }
    for name, box in zip(names, rows["boxes"]):
        if not box_fits(box[None], np.array([image.width]), np.array([image.height]))[0]:
            raise CellfeatError(
                f"cell {name!r}: box {box.tolist()} is not XYXY within the image of {image.width} x {image.height} px; "
                "give pixels of the original image"
            )
    return rows


def _given(name: str, cell: CellRow, image: ImageResult) -> dict[str, Any]:
    """What the caller gave for each element of a cell."""
    return {
        **{element.name: element.default for element in cell_elements()},
        "features": cell.feature,
        "crops": cell.crop,
        "masks": cell.mask,
        "boxes": cell.box,
        "scores": cell.score,
        "cell_id": name,
        "image_id": image.image_id,
        "domain": image.domain,
        "label": cell.label,
        **cell.further,
    }


def _row(what: str, value: Any, element: Element, layout: Layout) -> Any:
    """One row of an element in the store's dtype, checked."""
    if element.is_text:
        _check_text(value, what)
        return value
    shape, dtype = layout.form(element)
    array = np.asarray(value)
    if array.shape != shape:
        raise CellfeatError(f"{what}: {element.name} of shape {array.shape}, the store's is {shape}; match the two")
    if dtype == "uint8" and array.dtype not in (np.uint8, np.bool_):
        raise CellfeatError(f"{what}: {element.name} of {array.dtype}; give uint8")
    if element.bounds and not element.bounds[0] <= array.min() <= array.max() <= element.bounds[1]:
        lowest, highest = element.bounds
        raise CellfeatError(f"{what}: {element.name} hold {array.max():g}; give {lowest:g} to {highest:g}")
    with np.errstate(over="ignore"):  # an overflow shows as inf and is refused below
        stored = array.astype(dtype, copy=False)
    if stored.dtype.kind == "f" and not finite(stored).all():
        if np.isfinite(array).all():
            raise CellfeatError(
                f"{what}: {element.name} of {np.abs(array).max():.6g} are beyond {dtype}; dump as float32 elsewhere"
            )
        raise CellfeatError(f"{what}: its {element.name} are not finite; check the detector's weights and precision")
    return stored


def _check_text(text: Any, what: str) -> None:
    if not is_text(text):
        raise CellfeatError(f"{what}: {text!r} is no text that HDF5 holds, valid Unicode without NUL; write it so")
