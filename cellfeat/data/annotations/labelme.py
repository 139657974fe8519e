"""labelme JSON: one file an image, with rectangles, polygons, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cellfeat.data.annotations.geometry import checked_box, checked_polygon, ellipse, show
from cellfeat.data.annotations.json_file import read_object, stated_size, take
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.data.images import MAX_PIXELS
from cellfeat.errors import CellfeatError

OUTLINES = ("polygon", "oriented_rectangle", "rotation")  # the last is X-AnyLabeling's turned rectangle
WITHOUT_AREA = ("point", "points", "line", "linestrip")


def read_labelme(path: Path) -> Sheet:
    """Read the file of one image.

    Polygons of one label and one `group_id` are parts of one cell, as in labelme's own conversion to COCO.

    Raises:
        CellfeatError: A key is missing or a value of another kind, or an unknown shape.
    """
    content = read_object(path)
    shapes: list[Shape] = []
    groups: dict[tuple[str, str], list[Shape]] = defaultdict(list)
    for number, entry in enumerate(take(content, "shapes", list, str(path))):
        where = f"{path}: shapes[{number}]"
        shape = _shape(entry, where)
        group = entry.get("group_id")
        if shape.polygons and group is not None:
            groups[str(shape.class_name), str(group)].append(shape)
        else:
            shapes.append(shape)
    for parts in groups.values():
        polygons = tuple(polygon for part in parts for polygon in part.polygons)
        shapes.append(Shape(parts[0].where, parts[0].class_name, polygons=polygons))
    name = take(content, "imagePath", str, str(path), default=path.stem)
    return Sheet(name, str(path), tuple(shapes), stated_size(content, "imageHeight", "imageWidth", str(path)))


def _shape(entry: Any, where: str) -> Shape:
    name = take(entry, "label", str, where)
    kind = take(entry, "shape_type", str, where, default="polygon")
    points = take(entry, "points", list, where)
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise CellfeatError(f"{where} has the points {show(points)}", "each must be [x, y]")
    flat = [value for point in points for value in point]
    if kind in WITHOUT_AREA:
        return Shape(where, name, kind=kind)
    if kind == "rectangle" and len(points) == 4:  # X-AnyLabeling writes the corners
        corners = checked_polygon(flat, where)
        return Shape(where, name, box=(*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()))
    if kind in OUTLINES:
        return Shape(where, name, polygons=(checked_polygon(flat, where),))
    if kind not in ("rectangle", "circle", "mask"):
        raise CellfeatError(f"{where} has the shape_type {show(kind)}", "draw rectangles, polygons, circles or masks")
    x0, y0, x1, y1 = checked_box(flat, where, f"the two points of a {kind}")
    if kind == "circle":  # its centre and a point on it
        radius = math.hypot(x1 - x0, y1 - y0)
        return Shape(where, name, polygons=(ellipse(x0, y0, radius, radius),))
    box = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    if kind == "mask":
        return Shape(where, name, pixels=(_mask(entry, where), (round(box[0]), round(box[1]))))
    return Shape(where, name, box=box)


def _mask(entry: dict[str, Any], where: str) -> np.ndarray:
    """The mask of a shape, a PNG in base64 that covers its rectangle."""
    try:
        data = base64.b64decode(take(entry, "mask", str, where), validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise CellfeatError(f"{where} has a mask of {image.width} x {image.height} px", "correct or remove it")
            return np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise CellfeatError(f"{where} has a mask that is no PNG in base64", "correct or remove it") from None
