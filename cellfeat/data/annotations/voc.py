"""Pascal VOC XML, as labelImg, CVAT and Roboflow write it: one file an image."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from cellfeat.core.text import read_text
from cellfeat.data.annotations.geometry import checked_box, checked_polygon, image_size, number_of, show
from cellfeat.data.annotations.records import Size
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.errors import CellfeatError

SIDES = ("xmin", "ymin", "xmax", "ymax")
MAX_TEXT = 50_000_000
"""Characters; a field of 1,000 cells has about 300,000."""


def read_voc(path: Path) -> Sheet:
    """Read the file of one image.

    Boxes are taken as XYXY px whose edges lie between pixels, as labelImg and CVAT write them; the first pixel of the
    2007 challenge's own files is 1, and their boxes are read one pixel further right and down.

    Raises:
        CellfeatError: Not XML, a document type (entities could fill the memory), another root, or a value that is not
            a finite number.
    """
    root = _parse(path)
    if root.tag != "annotation":
        hint = "export it as COCO" if root.tag == "annotations" else "its root must be <annotation>"
        raise CellfeatError(f"{path}: is no Pascal VOC file, its root is <{root.tag}>", hint)
    shapes = tuple(_shape(entry, f"{path}: object {number}") for number, entry in enumerate(root.findall("object"), 1))
    return Sheet(_text(root, "filename") or path.stem, str(path), shapes, _size(root, str(path)))


def _parse(path: Path) -> ET.Element:
    text = read_text(path)
    if len(text) > MAX_TEXT:
        raise CellfeatError(f"{path}: {len(text):,} characters, more than {MAX_TEXT:,}", "is it one image's file?")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CellfeatError(f"{path}: has a document type or entities, which no VOC file needs", "remove them")
    try:
        return ET.fromstring(text.lstrip())
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise CellfeatError(f"{path}: is no XML ({error})", "export it again") from None


def _size(root: ET.Element, where: str) -> Size | None:
    """The stated size; old versions of labelImg write 0 where they do not know it."""
    height, width = _text(root, "size/height"), _text(root, "size/width")
    if {height, width} <= {"", "0"}:
        return None
    return image_size(_number(height), _number(width), where)


def _shape(entry: ET.Element, where: str) -> Shape:
    name = _text(entry, "name") or None
    if (outline := entry.find("polygon")) is not None and len(outline):
        return Shape(where, name, polygons=(checked_polygon(_points(outline, where), where),))
    box = entry.find("bndbox")
    if box is None:
        raise CellfeatError(f"{where} has no bndbox", "add it")
    values = [_number(_text(box, side)) for side in SIDES]
    return Shape(where, name, box=checked_box(values, where, ", ".join(SIDES)))


def _points(outline: ET.Element, where: str) -> list[float | str]:
    """x1, y1, x2, y2, ... as Roboflow writes them."""
    count = len(outline) // 2
    names = [f"{axis}{number}" for number in range(1, count + 1) for axis in "xy"]
    if sorted(child.tag for child in outline) != sorted(names):
        raise CellfeatError(f"{where} has a polygon with other keys than x1, y1, x2, y2, ...", "export it again")
    return [_number(_text(outline, name)) for name in names]


def _number(text: str) -> float | str:
    """A number, or the text where it is none: the checks of geometry say which it is."""
    try:
        return number_of(text)
    except ValueError:
        return show(text)


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
