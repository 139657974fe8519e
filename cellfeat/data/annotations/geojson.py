"""GeoJSON as QuPath exports objects: one file an image, coordinates in px of the full image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.core.files import read_json
from cellfeat.data.annotations.geometry import checked_polygon, show
from cellfeat.data.annotations.json_file import take
from cellfeat.data.annotations.shapes import REGION, Shape, Sheet
from cellfeat.errors import CellfeatError

WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
CELLS = ("cell", "detection")


def read_geojson(path: Path) -> Sheet:
    """Read the file of one image: a FeatureCollection, a list of features or one feature.

    QuPath's detections and cells are the cells; its annotations are cells only in a file that has no detections. Of a
    cell the outer outline is read, not the nucleus.

    Raises:
        CellfeatError: A key is missing or a value of another kind, or an unknown geometry.
    """
    content = read_json(path)
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = take(content, "features", list, str(path))
    features = content if isinstance(content, list) else [content]
    named = [(f"{path}: feature {number}", feature) for number, feature in enumerate(features)]
    kinds = [_object_type(feature, where) for where, feature in named]
    only_detections = any(kind in CELLS for kind in kinds)
    shapes = []
    for (where, feature), kind in zip(named, kinds, strict=True):
        if only_detections and kind not in CELLS:
            shapes.append(Shape(where, kind=REGION))
        else:
            shapes.append(_shape(feature, where))
    return Sheet(_image_name(path), str(path), tuple(shapes))


def is_geojson(content: Any) -> bool:
    """Whether the content of a JSON file is GeoJSON."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def _image_name(path: Path) -> str:
    """`a.tif.geojson` and `a.geojson` belong to an image a."""
    return path.stem


def _object_type(feature: Any, where: str) -> str:
    """QuPath's kind of object in lower case, as its versions write it; "" where the file has none."""
    properties = take(feature, "properties", dict, where, default={})
    for value in (properties.get("objectType"), properties.get("object_type"), feature.get("id")):
        if isinstance(value, str) and value.lower().removeprefix("path").removesuffix("object") in (
            *CELLS,
            "annotation",
            "tile",
            "root",
            "tma_core",
        ):
            return value.lower().removeprefix("path").removesuffix("object")
    return ""


def _shape(feature: dict[str, Any], where: str) -> Shape:
    classification = take(
        take(feature, "properties", dict, where, default={}), "classification", dict, where, default={}
    )
    name = take(classification, "name", str, where, default="") or None
    geometry = take(feature, "geometry", dict, where)
    kind = take(geometry, "type", str, where)
    if kind in WITHOUT_AREA:
        return Shape(where, name, kind=kind)
    if kind not in ("Polygon", "MultiPolygon"):
        raise CellfeatError(f"{where} has the geometry {show(kind)}", "export polygons")
    coordinates = take(geometry, "coordinates", list, where)
    parts = coordinates if kind == "MultiPolygon" else [coordinates]
    if not parts or not all(isinstance(part, list) and part for part in parts):
        raise CellfeatError(f"{where} has no coordinates", "correct or remove it")
    rings = [[_ring(ring, where) for ring in part] for part in parts]
    holes = tuple(hole for part in rings for hole in part[1:])
    return Shape(where, name, polygons=tuple(part[0] for part in rings), holes=holes)


def _ring(ring: Any, where: str) -> np.ndarray:
    if not isinstance(ring, list) or not all(isinstance(point, list) and 2 <= len(point) <= 3 for point in ring):
        raise CellfeatError(f"{where} has the ring {show(ring)}", "it must be a list of points [x, y]")
    return checked_polygon([value for point in ring for value in point[:2]], where)
