"""The formats that annotations may have, and which one a file or folder has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cellfeat.core.files import read_json
from cellfeat.data.annotations.box_table import read_box_table
from cellfeat.data.annotations.geojson import is_geojson, read_geojson
from cellfeat.data.annotations.labelme import read_labelme
from cellfeat.data.annotations.shapes import Sheet
from cellfeat.data.annotations.via import CSV_COLUMNS, is_via, read_via
from cellfeat.data.annotations.voc import read_voc
from cellfeat.data.listing import is_system_name
from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError

ONE_FILE: dict[str, Callable[[Path], list[Sheet]]] = {"csv": read_box_table, "via": read_via}
"""Formats of which one file holds all images (COCO is another: its files know the images' sizes)."""
A_FILE_AN_IMAGE: dict[str, tuple[str, ...]] = {
    "yolo": (".txt",),
    "voc": (".xml",),
    "labelme": (".json",),
    "geojson": (".geojson", ".json"),
}
"""Formats with a file an image, to the suffixes of these files."""
READERS: dict[str, Callable[[Path], Sheet]] = {"voc": read_voc, "labelme": read_labelme, "geojson": read_geojson}
SUFFIXES = (".txt", ".xml", ".json", ".geojson", ".csv")
NAME_IT = "name it in annotations.format"


def label_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder that have one of these suffixes, sorted, those of systems left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not any(map(is_system_name, path.relative_to(folder).parts)))


def detect_format(path: Path) -> str:
    """The format of a file or folder of annotations.

    Raises:
        CellfeatError: There is nothing, or it is not clear what it is.
    """
    if path.is_dir():
        kinds = {file.suffix.lower(): file for file in reversed(label_files(path, SUFFIXES))}
        formats = {_format_of(file) for file in kinds.values()}
    elif path.is_file():
        formats = {_format_of(path)}
    else:
        raise CellfeatError(f"{path}: no such file or folder of annotations", "correct annotations.path")
    if len(formats) != 1:
        raise CellfeatError(f"{path}: holds {', '.join(sorted(formats)) or 'no annotations'}", NAME_IT)
    return formats.pop()


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (".txt", ".xml"):
        return {".txt": "yolo", ".xml": "voc"}[suffix]
    if suffix == ".csv":
        return "via" if read_table(path).has(CSV_COLUMNS) else "csv"
    if suffix not in (".json", ".geojson"):
        raise CellfeatError(f"{path}: annotations of an unknown format", NAME_IT)
    content = read_json(path)
    if is_geojson(content):
        return "geojson"
    if is_via(content):
        return "via"
    if isinstance(content, dict) and "shapes" in content:
        return "labelme"
    if isinstance(content, dict) and "images" in content:
        return "coco"
    raise CellfeatError(f"{path}: neither COCO, labelme, VIA nor GeoJSON", NAME_IT)
