"""Tables with one box a line."""

from __future__ import annotations

from pathlib import Path

from cellfeat.data.annotations.geometry import checked_box, number_of, show
from cellfeat.data.annotations.records import Box
from cellfeat.data.annotations.shapes import Shape, Sheet
from cellfeat.data.tables import read_table
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
    table = read_table(path)
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


def _box(words: list[str], where: str, fractions: bool) -> Box:
    try:
        values = [number_of(word) for word in words]
    except ValueError:
        remedy = "write decimals with a point" if any("," in word for word in words) else "correct the line"
        raise CellfeatError(f"{where}: {show(' '.join(words))} are not four numbers", remedy) from None
    a, b, c, d = checked_box(values, where, ",".join(FRACTION_COLUMNS if fractions else PIXEL_COLUMNS), fractions)
    return (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if fractions else (a, b, c, d)
