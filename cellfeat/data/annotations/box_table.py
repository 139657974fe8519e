"""Tables with one box a line."""

from __future__ import annotations

import csv
from pathlib import Path

from cellfeat.data import tables
from cellfeat.data.annotations.geometry import checked_box, show
from cellfeat.data.annotations.records import Box
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.errors import CellfeatError

FRACTION_COLUMNS = ("x_center", "y_center", "width", "height")
PIXEL_COLUMNS = ("x0", "y0", "x1", "y1")
CLASS_COLUMN = "class"


def read_box_table(path: Path) -> list[Sheet]:
    """Read a CSV table with one box a line: file, and either fractions `x_center, y_center, width, height` or XYXY px
    `x0, y0, x1, y1`; a column `class` is optional. A line with a file and no numbers means an image without cells.

    Returns:
        One sheet a file name as written in the table.

    Raises:
        CellfeatError: The file or its columns are missing, or a value is no finite number.
    """
    table = tables.read_table(path)
    fractions = table.has(FRACTION_COLUMNS)
    names = FRACTION_COLUMNS if fractions else PIXEL_COLUMNS
    if not table.has(("file", *names)):
        raise CellfeatError(
            f"{path}: needs the columns file,{','.join(FRACTION_COLUMNS)} (fractions) "
            f"or file,{','.join(PIXEL_COLUMNS)} (px)"
        )
    columns = [table.column(name) for name in names]
    classes = table.values(CLASS_COLUMN) if table.has([CLASS_COLUMN]) else [""] * len(table.rows)
    shapes: dict[str, list[Shape]] = {}
    for file_name, row, class_name, line in zip(table.values("file"), table.rows, classes, table.lines, strict=True):
        where, words = f"{path}, line {line}", [row[column] for column in columns]
        found = shapes.setdefault(file_name, [])
        if any(words):
            found.append(Shape(where, class_name or None, box=_box(words, where, fractions), fractions=fractions))
    return [Sheet(file_name, str(path), tuple(found)) for file_name, found in shapes.items()]


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
        raise CellfeatError(f"{path}: no such table; correct its name, or run the set's prepare script") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CellfeatError(f"{path}: not a utf-8 CSV table ({error})") from None


def _box(words: list[str], where: str, fractions: bool) -> Box:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise CellfeatError(f"{where}: {show(' '.join(words))} are not four numbers", "correct the line") from None
    a, b, c, d = checked_box(values, where, ",".join(FRACTION_COLUMNS if fractions else PIXEL_COLUMNS), fractions)
    return (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if fractions else (a, b, c, d)
