"""Read the reference boxes and masks that datasets bring: COCO JSON, YOLO text files, tables of boxes."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from cellfeat.core.files import read_json
from cellfeat.errors import CellfeatError

Box = tuple[float, float, float, float]
FRACTION_COLUMNS = ("x_center", "y_center", "width", "height")
PIXEL_COLUMNS = ("x0", "y0", "x1", "y1")


@dataclass
class CocoImage:
    """What a COCO file says about one image.

    Attributes:
        size: (height, width) in px.
        instances: Its annotations, each {bbox XYWH px, area, iscrowd 0} and, where there is a mask, segmentation as
            compressed RLE with counts as str.
        categories: The category name of each.
    """

    size: tuple[int, int]
    instances: list[dict[str, Any]] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)


def read_coco(path: Path, categories: Iterable[str] | None = None) -> dict[str, CocoImage]:
    """Read a COCO JSON file; crowd annotations are left out.

    Args:
        path: The file.
        categories: Names of the categories to keep; needed if the file has several.

    Returns:
        File name as written in the file to what it says about that image.

    Raises:
        CellfeatError: A missing key, an id or file name that occurs twice, an annotation of an unknown image or
            category, an empty box, or several categories and no choice.
    """
    content = read_json(path)
    lists: dict[str, list[Any]] = {}
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise CellfeatError(f"{path}: no list {key!r}; a COCO file holds images, annotations and categories")
        lists[key] = content[key]
    for key, needed in {
        "images": ("id", "file_name", "height", "width"),
        "annotations": ("id", "image_id", "category_id", "bbox"),
        "categories": ("id", "name"),
    }.items():
        _check_entries(path, key, lists[key], needed)

    names = {entry["id"]: str(entry["name"]) for entry in lists["categories"]}
    wanted = set(categories) if categories is not None else set(names.values())
    if categories is None and len(names) > 1:
        raise CellfeatError(
            f"{path}: has the categories {', '.join(names.values())}; name the white cells in coco_categories"
        )
    if missing := wanted - set(names.values()):
        raise CellfeatError(f"{path}: no category {', '.join(sorted(missing))}; it has {', '.join(names.values())}")

    by_id = {entry["id"]: CocoImage((int(entry["height"]), int(entry["width"]))) for entry in lists["images"]}
    by_name = {entry["file_name"]: by_id[entry["id"]] for entry in lists["images"]}
    if len(by_name) < len(by_id):
        raise CellfeatError(f"{path}: a file_name occurs twice among the images; keep one entry for each file")
    for entry in lists["annotations"]:
        what = f"{path}: annotation {entry['id']}"
        if entry["image_id"] not in by_id:
            raise CellfeatError(f"{what} belongs to image {entry['image_id']}, which the file does not list; remove it")
        if entry["category_id"] not in names:
            raise CellfeatError(f"{what} has category {entry['category_id']}, which the file does not list")
        if names[entry["category_id"]] in wanted and not entry.get("iscrowd"):
            image = by_id[entry["image_id"]]
            image.instances.append(_instance(entry, image.size, what))
            image.categories.append(names[entry["category_id"]])
    return by_name


def _check_entries(path: Path, key: str, entries: list, needed: tuple[str, ...]) -> None:
    seen = set()
    for position, entry in enumerate(entries):
        absent = [name for name in needed if not isinstance(entry, dict) or name not in entry]
        if absent:
            raise CellfeatError(f"{path}: {key}[{position}] has no {', '.join(absent)}; add it")
        if entry["id"] in seen:
            raise CellfeatError(f"{path}: id {entry['id']} occurs twice in {key}; ids must differ")
        seen.add(entry["id"])


def _instance(entry: dict[str, Any], size: tuple[int, int], what: str) -> dict[str, Any]:
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and box[2] > 0 and box[3] > 0):
        raise CellfeatError(f"{what} has the box {box}; it must be [x, y, width, height] in px with positive sides")
    instance = {"bbox": [float(side) for side in box], "area": float(entry.get("area", box[2] * box[3])), "iscrowd": 0}
    if segmentation := entry.get("segmentation"):
        try:
            instance["segmentation"] = _compressed(segmentation, *size)
        except Exception as error:  # pycocotools raises plain Exception, TypeError, IndexError on malformed input
            raise CellfeatError(f"{what} has a segmentation that is neither polygons nor RLE ({error})") from None
    return instance


def _compressed(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, height, width)
    counts = segmentation["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def read_box_table(path: Path) -> tuple[dict[str, list[Box]], bool]:
    """Read a CSV table with one box a line.

    Returns:
        Image file as written in the table to its boxes; and whether these are fractions `x_center, y_center, width,
        height` (True) or XYXY px (False).

    Raises:
        CellfeatError: The file or its columns are missing, or a value is no number.
    """
    rows, columns = read_table(path)
    fractions = set(FRACTION_COLUMNS) <= set(columns)
    names = FRACTION_COLUMNS if fractions else PIXEL_COLUMNS
    if not {"file", *names} <= set(columns):
        raise CellfeatError(
            f"{path}: needs the columns file,{','.join(FRACTION_COLUMNS)} (fractions) "
            f"or file,{','.join(PIXEL_COLUMNS)} (px)"
        )
    boxes: dict[str, list[Box]] = {}
    for number, row in enumerate(rows, start=2):
        boxes.setdefault(row["file"], []).append(_numbers([row[name] for name in names], f"{path}, line {number}"))
    return boxes, fractions


def read_yolo(path: Path, classes: Iterable[int]) -> list[Box]:
    """Read one YOLO label file, `class x_center y_center width height` a line, as fractions of the image.

    Raises:
        CellfeatError: A line of another form.
    """
    boxes = []
    wanted = {str(number) for number in classes}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if words and len(words) != 5:
            raise CellfeatError(f"{path}, line {number}: needs five words: class x_center y_center width height")
        if words and words[0] in wanted:
            boxes.append(_numbers(words[1:], f"{path}, line {number}"))
    return boxes


def read_table(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows and column names of a CSV file.

    Raises:
        CellfeatError: The file is missing or is not a utf-8 table.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            return [{key: value or "" for key, value in row.items() if key} for row in reader], list(
                reader.fieldnames or []
            )
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such table; datasets/README.md says where it comes from") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CellfeatError(f"{path}: not a utf-8 CSV table ({error})") from None


def fraction_to_pixels(box: Box, height: int, width: int) -> Box:
    """(x_center, y_center, width, height) as fractions to XYXY px, cut at the image's edge."""
    x, y, w, h = box
    return (
        max(0.0, (x - w / 2) * width),
        max(0.0, (y - h / 2) * height),
        min(float(width), (x + w / 2) * width),
        min(float(height), (y + h / 2) * height),
    )


def _numbers(words: list[str], where: str) -> Box:
    try:
        a, b, c, d = (float(word) for word in words)
    except ValueError:
        raise CellfeatError(f"{where}: {' '.join(words)!r} are not four numbers; mend the line") from None
    return a, b, c, d
