"""VGG Image Annotator 1 and 2: projects and exported annotations as JSON, and as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cellfeat.data.annotations.geometry import checked_box, checked_polygon, ellipse, show
from cellfeat.data.annotations.json_file import read_object, take
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError

PROJECT = "_via_img_metadata"
CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
CLASS_KEYS = ("class", "label", "category", "name", "type")
"""The attribute that is the class where regions have several."""
WITHOUT_AREA = ("point", "polyline")


def read_via(path: Path) -> list[Sheet]:
    """Read a project or exported annotations.

    The class of a region is its only attribute, or of several the one called class, label, category, name or type.

    Raises:
        CellfeatError: A key is missing or a value of another kind, or an unknown shape.
    """
    if path.suffix.lower() == ".csv":
        return list(_csv_sheets(path))
    content = read_object(path)
    entries = take(content, PROJECT, dict, str(path)) if PROJECT in content else content
    return [_sheet(path, f"{path}: {show(key)}", entry) for key, entry in entries.items()]


def is_via(content: Any) -> bool:
    """Whether the content of a JSON file is VIA's."""
    if not isinstance(content, dict):
        return False
    values = list(content.values())
    return PROJECT in content or (
        bool(values) and all(isinstance(value, dict) and "filename" in value and "regions" in value for value in values)
    )


def _sheet(path: Path, where: str, entry: Any) -> Sheet:
    name = take(entry, "filename", str, where)
    regions = entry.get("regions")
    if isinstance(regions, dict):  # VIA 1
        regions = list(regions.values())
    if not isinstance(regions, list):
        raise CellfeatError(f"{where} has regions {show(regions)}", "it must be a list")
    shapes = (
        _shape(
            take(region, "shape_attributes", dict, f"{where} region {number}"),
            take(region, "region_attributes", dict, f"{where} region {number}", default={}),
            f"{where} region {number}",
        )
        for number, region in enumerate(regions)
    )
    return Sheet(name, str(path), tuple(shapes))


def _csv_sheets(path: Path) -> Iterable[Sheet]:
    table = read_table(path)
    names, regions, attributes = (table.values(column) for column in CSV_COLUMNS)
    shapes: dict[str, list[Shape]] = {}
    for name, region, attribute, line in zip(names, regions, attributes, table.lines, strict=True):
        where = f"{path}, line {line}"
        found = shapes.setdefault(name, [])
        if shape := _object(region, where):
            found.append(_shape(shape, _object(attribute, where), where))
    return [Sheet(name, str(path), tuple(found)) for name, found in shapes.items()]


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise CellfeatError(f"{where}: {show(text)} is no JSON object", "export it from VIA as CSV again")
    return content


def _shape(shape: dict[str, Any], attributes: dict[str, Any], where: str) -> Shape:
    name, kind = _class(attributes), take(shape, "name", str, where)
    if kind in WITHOUT_AREA:
        return Shape(where, name, kind=kind)
    if kind == "rect":
        values = [take(shape, key, float, where) for key in ("x", "y", "width", "height")]
        x, y, w, h = checked_box(values, where, "x, y, width, height in px")
        return Shape(where, name, box=(x, y, x + w, y + h))
    if kind == "polygon":
        xs, ys = (take(shape, key, list, where) for key in ("all_points_x", "all_points_y"))
        if len(xs) != len(ys):
            raise CellfeatError(f"{where} has {len(xs)} x and {len(ys)} y", "correct or remove it")
        flat = [value for point in zip(xs, ys, strict=True) for value in point]
        return Shape(where, name, polygons=(checked_polygon(flat, where),))
    if kind in ("circle", "ellipse"):
        x, y = take(shape, "cx", float, where), take(shape, "cy", float, where)
        radii = ("r", "r") if kind == "circle" else ("rx", "ry")
        rx, ry = (take(shape, key, float, where) for key in radii)
        return Shape(where, name, polygons=(ellipse(x, y, rx, ry, take(shape, "theta", float, where, default=0.0)),))
    raise CellfeatError(f"{where} has the shape {show(kind)}", "draw rectangles, polygons, circles or ellipses")


def _class(attributes: dict[str, Any]) -> str | None:
    """The class of a region; a checkbox is {"WBC": true}."""
    values = list(attributes.values())
    if len(attributes) > 1:
        by_name = {key.strip().lower(): value for key, value in attributes.items()}
        values = [by_name[key] for key in CLASS_KEYS if key in by_name][:1]
    value = values[0] if len(values) == 1 else None
    if isinstance(value, dict):
        chosen = [key for key, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else None
    return str(value) if isinstance(value, str | int) and str(value).strip() else None
