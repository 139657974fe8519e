"""COCO JSON, as Detectron2, CVAT, Label Studio, Roboflow and converters of labelme write it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cellfeat.core.files import read_json
from cellfeat.core.text import printable
from cellfeat.data.annotations.classes import Wanted
from cellfeat.data.annotations.geometry import (
    checked_box,
    checked_polygon,
    checked_rle,
    cut,
    image_size,
    iou,
    is_whole,
    mask_area,
    mask_box,
    polygons_to_mask,
    seems_xyxy,
    show,
)
from cellfeat.data.annotations.records import AnnotatedImage, Box, Cell, Rle, Size
from cellfeat.errors import CellfeatError

XYWH = "[x, y, width, height] in px"
CROWD = "crowd annotations (iscrowd 1)"
FLAGS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True, None: False}
AGREE = 0.5
"""Least IoU of an annotation's box and its mask: AP50's own bound for the same object."""
ROUNDING = 2.0
"""px by which box and mask may differ at any side however small they are."""


def read_coco(path: Path, classes: Iterable[str | int] | None = None) -> dict[str, AnnotatedImage]:
    """Read a COCO JSON file.

    Args:
        path: The file.
        classes: The categories that are white blood cells, by name or id; needed if the file has several.

    Returns:
        File name as written in the file to what it says about that image.

    Raises:
        CellfeatError: Any key, type, number, size, box or segmentation that is not as COCO defines it, an id or file
            name that occurs twice, an annotation of an unknown image or category, or several categories and no choice.
    """
    lists = _lists(path)
    names = {id_: _text(entry, "name", where) for id_, entry, where in _entries(path, lists, "categories")}
    wanted = Wanted.of(classes, {name: id_ for id_, name in names.items()}, str(path), "categories")
    sizes: dict[str, Size] = {}
    files: dict[str, str] = {}
    for id_, entry, where in _entries(path, lists, "images"):
        files[id_] = _text(entry, "file_name", where)
        if absent := [key for key in ("height", "width") if key not in entry]:
            raise CellfeatError(f"{where} has no {', '.join(absent)}", "add it")
        sizes[id_] = image_size(entry.get("height"), entry.get("width"), where)
    if twice := [name for name, count in Counter(files.values()).items() if count > 1]:
        raise CellfeatError(
            f"{path}: file_name {printable(twice[0])} occurs twice among the images", "keep one entry for each"
        )

    cells: dict[str, list[Cell]] = {id_: [] for id_ in files}
    crowds: dict[str, Counter[str]] = {id_: Counter() for id_ in files}
    others: dict[str, Counter[str]] = {id_: Counter() for id_ in files}
    boxes: list[tuple[Box, Box, Size]] = []
    places: list[str] = []
    for _, entry, where in _entries(path, lists, "annotations"):
        image = _reference(entry, "image_id", files, where)
        name = names[_reference(entry, "category_id", names, where)]
        if name not in wanted:
            others[image][name] += 1
        elif _is_crowd(entry, where):
            crowds[image][CROWD] += 1
        else:
            box = checked_box(entry.get("bbox"), where, XYWH)
            cells[image].append(_cell(entry, box, sizes[image], name, where))
            x, y, w, h = box
            boxes.append((box, (x, y, x + w, y + h), sizes[image]))
            places.append(where)
    if (number := seems_xyxy(boxes)) is not None:
        raise CellfeatError(
            f"{places[number]} has the box {list(boxes[number][0])}, outside its image; "
            "as XYXY all boxes of the file fit",
            f"write them as {XYWH}",
        )
    return {
        name: AnnotatedImage(name, sizes[id_], tuple(cells[id_]), crowds[id_], others[id_])
        for id_, name in files.items()
    }


def _lists(path: Path) -> dict[str, list[Any]]:
    content = read_json(path)
    lists = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise CellfeatError(f"{path}: no list {key!r}; a COCO file holds images, annotations and categories")
        lists[key] = content[key]
    return lists


def _entries(path: Path, lists: dict[str, list[Any]], key: str) -> Iterable[tuple[str, dict[str, Any], str]]:
    """Id, entry and where it is, of each entry of a list; ids are compared by value: 7 and "7" are the same."""
    seen = set()
    for position, entry in enumerate(lists[key]):
        where = f"{path}: {key}[{position}]"
        if not isinstance(entry, dict):
            raise CellfeatError(f"{where} is {show(entry)}", "each entry must be an object with its keys")
        id_ = _id(entry, "id", where)
        if id_ in seen:
            raise CellfeatError(f"{path}: id {printable(id_)} occurs twice in {key}", "ids must differ")
        seen.add(id_)
        yield id_, entry, f"{path}: {key.removesuffix('s') if key != 'categories' else 'category'} {printable(id_)}"


def _id(entry: dict[str, Any], key: str, where: str) -> str:
    if key not in entry:
        raise CellfeatError(f"{where} has no {key}", "add it")
    value = entry[key]
    if isinstance(value, str) and value.strip():
        return re.sub(r"^(-?\d+)\.0+$", r"\1", value.strip())
    if is_whole(value):
        return str(int(value))
    raise CellfeatError(f"{where} has {key} {show(value)}", "it must be a whole number or a text")


def _reference(entry: dict[str, Any], key: str, known: dict[str, str], where: str) -> str:
    id_ = _id(entry, key, where)
    if id_ not in known:
        what = "belongs to image" if key == "image_id" else "has category"
        raise CellfeatError(f"{where} {what} {printable(id_)}, which the file does not list", "correct or remove it")
    return id_


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise CellfeatError(
            f"{where} has {key} {show(value)}" if key in entry else f"{where} has no {key}", "give a text"
        )
    return value


def _is_crowd(entry: dict[str, Any], where: str) -> bool:
    value = entry.get("iscrowd")
    try:
        return FLAGS[value.strip().lower() if isinstance(value, str) else value]
    except (KeyError, TypeError):
        raise CellfeatError(f"{where} has iscrowd {show(value)}", "it must be 0 or 1") from None


def _cell(entry: dict[str, Any], xywh: Box, size: Size, name: str, where: str) -> Cell:
    area = entry.get("area", 0)
    if not (isinstance(area, int | float) and not isinstance(area, bool) and 0 <= area < float("inf")):
        raise CellfeatError(f"{where} has area {show(area)}", "it must be a number of px, or left out")
    x, y, w, h = xywh
    if w <= 0 or h <= 0:
        raise CellfeatError(f"{where} has the box {list(xywh)}", f"it must be {XYWH} with positive sides")
    box = cut((x, y, x + w, y + h), size, where)
    mask = _mask(entry.get("segmentation"), size, where)
    if mask is None:
        return Cell(box, None, (box[2] - box[0]) * (box[3] - box[1]), name, where)
    _compare(box, xywh, mask_box(mask), where)
    return Cell(box, mask, mask_area(mask), name, where)


def _mask(segmentation: Any, size: Size, where: str) -> Rle | None:
    if segmentation in (None, [], [[]], {}, ""):
        return None
    if isinstance(segmentation, dict):
        return checked_rle(segmentation, size, where)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise CellfeatError(
            f"{where} has a segmentation that is neither polygons nor RLE, {show(segmentation)}",
            "polygons are a list of lists x0, y0, x1, y1, ...",
        )
    return polygons_to_mask([checked_polygon(polygon, where) for polygon in segmentation], size, where)


def _compare(box: Box, xywh: Box, around_mask: Box, where: str) -> None:
    """Refuse a box that is not that of the mask."""
    differs = max(abs(one - other) for one, other in zip(box, around_mask, strict=True))
    if differs <= ROUNDING or iou(box, around_mask) >= AGREE:
        return
    hint = f"it seems to be XYXY, COCO's is {XYWH}" if iou(xywh, around_mask) >= AGREE else "correct one of them"
    raise CellfeatError(f"{where} has the box {list(xywh)}, but its mask lies in {list(around_mask)} (XYXY px)", hint)
