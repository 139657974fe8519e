"""The rows that go into a store: what a caller gives, and the checks that keep bad values out of immutable shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.store.schema import Layout, box_fits, finite


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
    """

    feature: np.ndarray
    crop: np.ndarray
    mask: np.ndarray
    box: np.ndarray
    score: float
    label: str = ""


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
    """

    image_id: str
    domain: str
    label: str
    width: int
    height: int
    reason: str = ""
    cells: list[CellRow] = field(default_factory=list)


def rows_of(image: ImageResult, layout: Layout) -> dict[str, Any]:
    """The columns of one image's cells, by descending score, checked and in the store's dtypes.

    Raises:
        CellfeatError: A value that the store must not hold; names the image or the cell.
    """
    what = f"image {image.image_id!r}"
    for text in (image.image_id, image.domain, image.label, image.reason, *(cell.label for cell in image.cells)):
        _check_text(text, what)
    if not image.image_id:
        raise CellfeatError("an image has an empty image_id; give every image an id of its own")
    if image.reason and image.cells:
        raise CellfeatError(f"{what} has both cells and a reason why it could not be read; give one of the two")
    if min(image.width, image.height) < (0 if image.reason else 1):
        raise CellfeatError(f"{what} is {image.width} x {image.height} px; give the size of the original image")
    cells = sorted(image.cells, key=lambda cell: -cell.score)
    names = [f"{image.image_id}#{k}" for k in range(len(cells))]
    for name, cell in zip(names, cells):
        _check_cell(f"cell {name!r}", cell, image, layout)
    return {
        "features": [_feature(f"cell {name!r}", cell.feature, layout) for name, cell in zip(names, cells)],
        "crops": [cell.crop for cell in cells],
        "masks": [np.asarray(cell.mask, np.uint8) for cell in cells],
        "boxes": [np.array(cell.box, np.float32) for cell in cells],
        "scores": [cell.score for cell in cells],
        "cell_id": names,
        "image_id": [image.image_id] * len(cells),
        "domain": [image.domain] * len(cells),
        "label": [cell.label for cell in cells],
    }


def _check_cell(what: str, cell: CellRow, image: ImageResult, layout: Layout) -> None:
    crop, mask, box = np.asarray(cell.crop), np.asarray(cell.mask), np.asarray(cell.box, np.float64)
    for name, array in {"features": np.asarray(cell.feature), "crops": crop, "masks": mask}.items():
        shape = layout.arrays[name][0]
        if array.shape != shape:
            raise CellfeatError(f"{what}: {name} of shape {array.shape}, the store's is {shape}; match the two")
    if crop.dtype != np.uint8 or mask.dtype not in (np.uint8, np.bool_):
        raise CellfeatError(f"{what}: crop {crop.dtype} and mask {mask.dtype}; give uint8 RGB and a mask of 0 and 1")
    if mask.max() > 1:
        raise CellfeatError(f"{what}: the mask holds {mask.max()}; give a mask of 0 and 1")
    if not np.isfinite(cell.score):
        raise CellfeatError(f"{what}: score {cell.score}; give a finite one")
    if box.shape != (4,) or not box_fits(box[None], np.array([image.width]), np.array([image.height]))[0]:
        raise CellfeatError(
            f"{what}: box {box.tolist()} is not XYXY within the image of {image.width} x {image.height} px; "
            "give pixels of the original image"
        )


def _feature(what: str, feature: np.ndarray, layout: Layout) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow shows as inf and is refused below
        stored = np.asarray(feature).astype(layout.feature_dtype, copy=False)
    if finite(stored).all():
        return stored
    if np.isfinite(feature).all():
        raise CellfeatError(
            f"{what}: a feature of {np.abs(feature).max():.6g} is beyond float16 (65504); dump as float32 elsewhere"
        )
    raise CellfeatError(f"{what}: its feature is not finite; check the detector's weights and precision")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CellfeatError(f"{what}: {text!r} is not valid Unicode; rename the file to utf-8") from None
    if "\0" in text:
        raise CellfeatError(f"{what}: {text!r} holds a NUL character; leave it out")
