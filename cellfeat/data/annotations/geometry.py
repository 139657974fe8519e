"""Numbers, boxes, polygons and runs from files: checked before anything computes with them.

pycocotools trusts what it is given: runs that are too short give masks of uninitialised memory, runs that are too long
and wild coordinates end the process. Everything passes through here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cellfeat.data.annotations.records import Box, Rle, Size
from cellfeat.data.images import MAX_PIXELS
from cellfeat.errors import CellfeatError

MAX_COORDINATE = 1_000_000
"""px; whole slides have up to some 300,000 px a side."""
MAX_OUTLINE = 1_000_000
"""px of a polygon's outline; pycocotools takes about 100 bytes a px of it."""
OUTSIDE = 0.2
"""Share of a box outside the image from which on XYXY for another form is considered; cells at the edge leave less."""
ROUNDED = 0.01
"""Share of the image's side by which XYXY may leave it."""
FRACTIONS = "fractions of the image; give px"


def show(value: Any) -> str:
    """A value of a file for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_number(value: Any) -> bool:
    """Whether a value read from JSON or text is a finite number, no truth value, within the largest image."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_COORDINATE <= value <= MAX_COORDINATE


def number_of(text: str) -> float:
    """A number as a text file writes it.

    Raises:
        ValueError: It is none. Python's own `1_0` is none either.
    """
    if "_" in text:
        raise ValueError(text)
    return float(text)


def is_whole(value: Any) -> bool:
    """Whether a value read from JSON is a whole number of any size, no truth value; 7.0 is one."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def image_size(height: Any, width: Any, where: str) -> Size:
    """Checked (height, width) in px as a file states them.

    Raises:
        CellfeatError: Not two whole numbers from 1 on, or more than `MAX_PIXELS` px together.
    """
    if not all(is_number(side) and side == int(side) and side >= 1 for side in (height, width)):
        raise CellfeatError(
            f"{where} has height {show(height)} and width {show(width)}",
            f"they must be whole numbers from 1 to {MAX_COORDINATE:,}",
        )
    if height * width > MAX_PIXELS:
        raise CellfeatError(f"{where}: {width} x {height} px, more than {MAX_PIXELS:,}", "tile the image first")
    return int(height), int(width)


def checked_box(values: Any, where: str, form: str, fractions: bool = False) -> Box:
    """Four finite numbers.

    Args:
        values: What the file has.
        where: File and line or id, for the message.
        form: What the four mean, for the message.
        fractions: Whether fractions of the image are meant, not px.

    Raises:
        CellfeatError: Not four finite numbers, or fractions where px are meant.
    """
    if not (isinstance(values, Sequence) and len(values) == 4 and all(is_number(value) for value in values)):
        raise CellfeatError(
            f"{where} has the box {show(values)}",
            f"it must be {form}: four finite numbers up to {MAX_COORDINATE:,}",
        )
    if not fractions and all(0 <= value <= 1 for value in values):
        raise CellfeatError(f"{where} has the box {show(values)}", f"these look like {FRACTIONS}")
    a, b, c, d = (float(value) for value in values)
    return a, b, c, d


def cut(box: Box, size: Size, where: str) -> Box:
    """A box (XYXY px) cut at the image's edges.

    Raises:
        CellfeatError: The box is empty, turned round, or has no part inside the image.
    """
    x0, y0, x1, y1 = box
    height, width = size
    if x1 <= x0 or y1 <= y0:
        raise CellfeatError(f"{where} has the box {_xyxy(box)}", "its sides must be positive")
    inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise CellfeatError(
            f"{where} has the box {_xyxy(box)}, outside its image of {width} x {height} px", "correct or remove it"
        )
    return inside


def seems_xyxy(boxes: Sequence[tuple[Box, Box, Size]]) -> int | None:
    """Which box shows that XYXY was written for another form: all numbers fit as XYXY, and as read it lies outside.

    Args:
        boxes: Of each box the four numbers as written, the XYXY that they mean, and (height, width) of the image, in
            one unit.

    Returns:
        The position of the first box with more than `OUTSIDE` of its area outside, None if all is well.
    """
    for (x0, y0, x1, y1), _, (height, width) in boxes:
        if not (0 <= x0 < x1 <= width * (1 + ROUNDED) and 0 <= y0 < y1 <= height * (1 + ROUNDED)):
            return None
    for position, (_, (x0, y0, x1, y1), (height, width)) in enumerate(boxes):
        inside = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
        if inside < (1 - OUTSIDE) * (x1 - x0) * (y1 - y0):
            return position
    return None


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (XYXY)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))
    return width * height / (areas - width * height)


def mask_box(mask: Rle) -> Box:
    """The box around a mask, XYXY px."""
    x, y, w, h = (float(value) for value in coco_mask.toBbox(mask))
    return x, y, x + w, y + h


def mask_area(mask: Rle) -> float:
    """Px of a mask."""
    return float(coco_mask.area(mask))


def encode(mask: np.ndarray) -> Rle:
    """A mask (h, w), of bool or 0 and 1, as compressed RLE."""
    return _text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def decode(mask: Rle) -> np.ndarray:
    """The pixels of a mask, (h, w) bool."""
    return coco_mask.decode(mask).astype(bool)


def from_pixels(pixels: np.ndarray, size: Size) -> Rle:
    """A mask from the indices of its pixels in the column-major image, ascending; time grows with the cell alone."""
    first = np.flatnonzero(np.diff(pixels, prepend=-2) != 1)
    lengths = np.diff(first, append=pixels.size)
    ends = pixels[first] + lengths
    runs = np.zeros(2 * first.size + 1, dtype=np.int64)
    runs[:-1:2] = pixels[first] - np.concatenate([[0], ends[:-1]])
    runs[1::2] = lengths
    runs[-1] = size[0] * size[1] - ends[-1]
    return _text(coco_mask.frPyObjects({"size": list(size), "counts": runs.tolist()}, *size))


def paste(pixels: np.ndarray, corner: tuple[int, int], size: Size, where: str) -> Rle:
    """A small mask (h, w) with its upper left corner at (x, y) px, as a mask of the whole image; cut at the edges.

    Raises:
        CellfeatError: No pixel is set inside the image.
    """
    height, width = size
    (x, y), (h, w) = corner, pixels.shape
    whole = np.zeros(size, dtype=bool)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x0 < x1 and y0 < y1:
        whole[y0:y1, x0:x1] = pixels[y0 - y : y1 - y, x0 - x : x1 - x]
    if not whole.any():
        raise CellfeatError(f"{where} has a mask without a pixel inside its image", "correct or remove it")
    return encode(whole)


def polygons_to_mask(polygons: Sequence[np.ndarray], size: Size, where: str, may_be_empty: bool = False) -> Rle:
    """The union of polygons as a mask, by COCO's own rule which pixels lie inside.

    Args:
        polygons: Each (n, 2) float, x and y in px of the image; see `checked_polygon`.
        size: (height, width) of the image.
        where: File and line or id, for the message.
        may_be_empty: Whether polygons without area inside the image are no error.

    Raises:
        CellfeatError: A polygon has no area inside the image, or an outline beyond `MAX_OUTLINE`.
    """
    height, width = size
    inside: list[Any] = []
    for polygon in polygons:
        outline = _clip(polygon, size)
        length = np.abs(np.diff(outline, axis=0, append=outline[:1])).max(axis=1).sum() if len(outline) else 0.0
        if length > MAX_OUTLINE:
            raise CellfeatError(
                f"{where} has a polygon with an outline of {length:,.0f} px",
                f"up to {MAX_OUTLINE:,} px are read; correct or remove it",
            )
        runs = coco_mask.frPyObjects([outline.ravel().tolist()], height, width) if len(outline) >= 3 else []
        if not may_be_empty and (not runs or not coco_mask.area(runs[0])):
            raise CellfeatError(
                f"{where} has a polygon without area inside its image of {width} x {height} px", "correct or remove it"
            )
        inside += runs
    return _text(coco_mask.merge(inside)) if inside else encode(np.zeros(size, dtype=bool))


def checked_polygon(values: Any, where: str, fractions: bool = False) -> np.ndarray:
    """Points of a polygon, (n, 2) float, from a flat list x0, y0, x1, y1, ...

    Args:
        values: What the file has.
        where: File and line or id, for the message.
        fractions: Whether fractions of the image are meant, not px.

    Raises:
        CellfeatError: Not at least three pairs of finite numbers, or fractions where px are meant.
    """
    if not isinstance(values, list) or len(values) % 2 or len(values) < 6:
        raise CellfeatError(
            f"{where} has the polygon {show(values)}", "it must be a list x0, y0, ... of 3 points or more"
        )
    if wrong := [value for value in values if not is_number(value)]:
        raise CellfeatError(
            f"{where} has a polygon with the value {show(wrong[0])}",
            f"coordinates must be finite numbers up to {MAX_COORDINATE:,}",
        )
    points = np.array(values, dtype=float).reshape(-1, 2)
    if not fractions and points.min() >= 0 and points.max() <= 1:
        raise CellfeatError(f"{where} has the polygon {show(values)}", f"these look like {FRACTIONS}")
    return points


def ellipse(x: float, y: float, rx: float, ry: float, theta: float = 0.0) -> np.ndarray:
    """The outline of an ellipse turned by `theta` (radians), (72, 2): within 0.1 px of it up to a radius of 100 px."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    along, across = rx * np.cos(turn), ry * np.sin(turn)
    return np.stack(
        [x + along * np.cos(theta) - across * np.sin(theta), y + along * np.sin(theta) + across * np.cos(theta)], axis=1
    )


def checked_rle(segmentation: dict[str, Any], size: Size, where: str) -> Rle:
    """COCO's RLE, compressed or not, as compressed RLE of the image's size.

    Raises:
        CellfeatError: Another size than the image's, runs that do not sum to it, malformed runs, or no pixel set.
    """
    height, width = size
    stated = segmentation.get("size")
    if not (isinstance(stated, list) and len(stated) == 2 and all(is_number(side) for side in stated)):
        raise CellfeatError(f"{where} has an RLE of size {show(stated)}", "it must be [height, width] in px")
    if stated != [height, width]:
        raise CellfeatError(
            f"{where} has a mask of {stated[0]} x {stated[1]} px (h x w), its image {height} x {width}",
            "export it again",
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        runs = _decompress(counts, where)
    elif isinstance(counts, list) and all(is_whole(run) for run in counts):
        runs = [int(run) for run in counts]
    else:
        raise CellfeatError(
            f"{where} has an RLE with the counts {show(counts)}", "they must be whole numbers or a text"
        )
    if runs and min(runs) < 0:
        raise CellfeatError(f"{where} has an RLE with a run of {show(min(runs))} px", "export it again")
    if (total := sum(runs)) != height * width:
        raise CellfeatError(f"{where} has an RLE of {show(total)} px, its image {height * width} px", "export it again")
    if not any(runs[1::2]):
        raise CellfeatError(f"{where} has an empty mask", "remove it")
    return _text(coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _decompress(text: str, where: str) -> list[int]:
    """Runs of a compressed RLE: groups of 5 bits, 48 added, 32 says that more follows, each run less the one before
    the last (pycocotools, rleFrString)."""
    try:
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        codes = np.array([-1])
    last = codes & 32 == 0
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise CellfeatError(f"{where} has an RLE with the counts {show(text)}, no runs of COCO", "export it again")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:  # 7 groups hold 35 bits, more than any image has px
        raise CellfeatError(f"{where} has an RLE with a run beyond any image", "export it again")
    place = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs.tolist()


def _clip(points: np.ndarray, size: Size) -> np.ndarray:
    """A polygon cut at the image's four edges (Sutherland and Hodgman 1974)."""
    height, width = size
    for axis, bound, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        distance = sign * (points[:, axis] - bound)  # positive inside
        if len(points) == 0 or (distance >= 0).all():
            continue
        after, distance_after = np.roll(points, -1, axis=0), np.roll(distance, -1)
        crosses = (distance >= 0) != (distance_after >= 0)
        share = np.divide(distance, distance - distance_after, out=np.zeros_like(distance), where=crosses)
        crossings = points + share[:, None] * (after - points)
        crossings[:, axis] = bound
        kept = np.stack([distance >= 0, crosses], axis=1)
        points = np.stack([points, crossings], axis=1)[kept]
    return points


def _text(runs: Any) -> Rle:
    counts = runs["counts"]
    return {
        "size": [int(side) for side in runs["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def _xyxy(box: Box) -> str:
    return f"({', '.join(f'{value:g}' for value in box)}) (XYXY px)"
