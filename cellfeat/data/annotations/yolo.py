"""YOLO label files: `class x_center y_center width height` or `class x1 y1 x2 y2 x3 y3 ...`, fractions of the image."""

from __future__ import annotations

from pathlib import Path

from cellfeat.core.text import read_text
from cellfeat.data.annotations.geometry import checked_box, checked_polygon, number_of, show
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.errors import CellfeatError

NAMES = "classes.txt"
"""labelImg and Label Studio write the names of the classes into it, one a line."""


def read_yolo(path: Path, file_name: str, names: list[str] | None = None) -> Sheet:
    """Read the label file of one image. Both forms may occur in one file; four corners are a polygon too.

    Args:
        path: The file; an empty one means an image without cells.
        file_name: The image's name.
        names: Names of the classes 0, 1, ...; without them classes are called by their numbers.

    Raises:
        CellfeatError: A line of another form, a class that is no number from 0 on, or a value that is not finite.
    """
    shapes = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if words := line.split():
            shapes.append(_shape(words, f"{path}, line {number}", names))
    return Sheet(file_name, str(path), tuple(shapes))


def read_names(folder: Path) -> list[str] | None:
    """The names of the classes, if the folder has a `classes.txt`, or its sub-folders have equal ones."""
    found = [folder / NAMES] if (folder / NAMES).is_file() else sorted(folder.rglob(NAMES))
    lists = [[line.strip() for line in read_text(path).split("\n") if line.strip()] for path in found]
    return lists[0] if lists and all(names == lists[0] for names in lists) else None


def _shape(words: list[str], where: str, names: list[str] | None) -> Shape:
    class_name = _class(words[0], where, names)
    try:
        values = [number_of(word) for word in words[1:]]
    except ValueError:
        raise CellfeatError(
            f"{where}: {show(' '.join(words))} has a word that is no number", "correct the line"
        ) from None
    if len(values) == 4:
        x, y, w, h = checked_box(values, where, "x_center y_center width height", fractions=True)
        return Shape(where, class_name, box=(x - w / 2, y - h / 2, x + w / 2, y + h / 2), fractions=True)
    if len(values) >= 6 and len(values) % 2 == 0:
        return Shape(where, class_name, polygons=(checked_polygon(values, where, fractions=True),), fractions=True)
    hint = "remove the confidence at its end" if len(values) == 5 else "correct the line"
    raise CellfeatError(
        f"{where}: needs five words, class x_center y_center width height, or a class and three points or more; "
        f"it has {len(words)}",
        hint,
    )


def _class(word: str, where: str, names: list[str] | None) -> str:
    try:
        number = number_of(word)
    except ValueError:
        number = -1.0
    if not (number.is_integer() and 0 <= number <= 10_000):
        raise CellfeatError(f"{where}: the class {show(word)} is no number from 0 on", "write the number of the class")
    if names is not None and number < len(names):
        return names[int(number)]
    return str(int(number))
