"""What label files say about images whose size they do not know, and how it becomes records.

Readers of such formats give sheets of shapes: numbers are finite, but nothing was compared with the image yet. `place`
does that, once the image's size is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellfeat.core.text import printable
from cellfeat.data.annotations.classes import Wanted
from cellfeat.data.annotations.geometry import (
    cut,
    decode,
    encode,
    mask_area,
    mask_box,
    paste,
    polygons_to_mask,
    seems_xyxy,
)
from cellfeat.data.annotations.records import AnnotatedImage, Box, Cell, Rle, Size
from cellfeat.errors import CellfeatError

REGION = "region around detections"
"""Kind of a shape that is no cell: an area that was searched for cells."""
FRACTION_SLACK = 0.01
"""By which fractions may leave 0 to 1: Ultralytics reads labels up to 1.01 too; the part outside is cut off."""


@dataclass(frozen=True)
class Shape:
    """One annotation of a label file: a box, or polygons with holes, or pixels; a kind without area has none of them.

    Attributes:
        where: File and line or number, for messages.
        class_name: Its class as written, None where there is none.
        box: XYXY.
        polygons: Each (n, 2), x and y; their union is the cell.
        holes: Polygons that are cut out of it.
        pixels: (h, w) bool and where its upper left corner lies, (x, y) px.
        fractions: Whether box and polygons are fractions of the image instead of px.
        kind: What it is, where it is no cell: a shape without area such as "point", or `REGION`.
    """

    where: str
    class_name: str | None = None
    box: Box | None = None
    polygons: tuple[np.ndarray, ...] = ()
    holes: tuple[np.ndarray, ...] = ()
    pixels: tuple[np.ndarray, tuple[int, int]] | None = None
    fractions: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Sheet:
    """The annotations of one image.

    Attributes:
        file_name: The image's name as written.
        where: The file, for messages.
        shapes: The annotations.
        size: (height, width) in px as written, None where the file does not say.
    """

    file_name: str
    where: str
    shapes: tuple[Shape, ...] = ()
    size: Size | None = None


def place(sheet: Sheet, size: Size, wanted: Wanted | None) -> AnnotatedImage:
    """Compare a sheet with its image, of which the size is known now.

    Args:
        sheet: The annotations.
        size: (height, width) of the image in px.
        wanted: The classes that are white blood cells; None: all.

    Raises:
        CellfeatError: The sheet states another size, a box or polygon has no area inside the image, or fractions are
            not between 0 and 1.
    """
    if sheet.size is not None and sheet.size != size:
        raise CellfeatError(
            f"{sheet.where}: {printable(sheet.file_name)} is {sheet.size[1]} x {sheet.size[0]} px there, the image "
            f"{size[1]} x {size[0]} px",
            "they must agree; was the image turned or resized?",
        )
    cells, incomplete, others = [], Counter[str](), Counter[str]()
    for shape in sheet.shapes:
        if shape.kind == REGION:
            others[REGION] += 1
        elif wanted is not None and shape.class_name is None:
            incomplete["annotations without a class"] += 1
        elif wanted is not None and str(shape.class_name) not in wanted:
            others[str(shape.class_name)] += 1
        elif shape.box is None and not shape.polygons and shape.pixels is None:
            incomplete[f"{shape.kind} annotations without area"] += 1
        else:
            cells.append(_cell(shape, size))
    return AnnotatedImage(sheet.file_name, size, tuple(cells), incomplete, others)


def check_fraction_boxes(sheets: Sequence[Sheet]) -> None:
    """Refuse fractions that are XYXY where a centre, width and height belong.

    Raises:
        CellfeatError: Two boxes or more, all of which fit as XYXY, and some of which lie outside the image as read.
    """
    shapes = [shape for sheet in sheets for shape in sheet.shapes if shape.fractions and shape.box is not None]
    boxes = [
        (((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), (x0, y0, x1, y1), (1, 1))
        for x0, y0, x1, y1 in (shape.box for shape in shapes if shape.box is not None)
    ]
    if len(boxes) > 1 and (number := seems_xyxy(boxes)) is not None:
        raise CellfeatError(
            f"{shapes[number].where}: the box lies outside its image; as XYXY all boxes fit",
            "write x_center y_center width height",
        )


def classes_of(sheets: Sequence[Sheet]) -> dict[str, str]:
    """Every class of the sheets, name to name, in order of first occurrence."""
    return {name: name for sheet in sheets for shape in sheet.shapes if (name := shape.class_name) is not None}


def _cell(shape: Shape, size: Size) -> Cell:
    if shape.box is not None:
        box = cut(_pixels_of_box(shape, shape.box, size), size, shape.where)
        return Cell(box, None, (box[2] - box[0]) * (box[3] - box[1]), shape.class_name, shape.where)
    mask = _mask(shape, size)
    return Cell(mask_box(mask), mask, mask_area(mask), shape.class_name, shape.where)


def _mask(shape: Shape, size: Size) -> Rle:
    if shape.pixels is not None:
        return paste(*shape.pixels, size, shape.where)
    mask = polygons_to_mask([_pixels_of_polygon(shape, polygon, size) for polygon in shape.polygons], size, shape.where)
    if not shape.holes:
        return mask
    holes = [_pixels_of_polygon(shape, polygon, size) for polygon in shape.holes]
    left = decode(mask) & ~decode(polygons_to_mask(holes, size, shape.where, may_be_empty=True))
    if not left.any():
        raise CellfeatError(f"{shape.where} has a polygon that its holes fill", "correct or remove it")
    return encode(left)


def _pixels_of_box(shape: Shape, box: Box, size: Size) -> Box:
    if not shape.fractions:
        return box
    _check_fractions(shape, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])
    height, width = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _pixels_of_polygon(shape: Shape, polygon: np.ndarray, size: Size) -> np.ndarray:
    if not shape.fractions:
        return polygon
    _check_fractions(shape, polygon.ravel().tolist())
    return polygon * np.array([size[1], size[0]], dtype=float)


def _check_fractions(shape: Shape, values: Sequence[float]) -> None:
    if wrong := [value for value in values if not -FRACTION_SLACK <= value <= 1 + FRACTION_SLACK]:
        raise CellfeatError(
            f"{shape.where} has the value {wrong[0]:g}", "its numbers must be fractions of the image, 0 to 1"
        )
