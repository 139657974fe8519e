"""Tables as people save them: comma, semicolon or tab, UTF-8 or UTF-16, empty rows, column names in any case."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellfeat.core.text import printable, read_text
from cellfeat.errors import CellfeatError

DELIMITERS = ",;\t"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's first line that names the delimiter


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        source: Where it comes from, for messages.
        columns: Names of its columns as written.
        rows: Its rows by column name, white space around values removed; rows without any value are left out.
        lines: Number of the line that each row ends in.
    """

    source: str
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    lines: list[int]

    def column(self, name: str) -> str:
        """The written name of a column; upper and lower case and white space do not count.

        Raises:
            CellfeatError: There is no such column, or there are several.
        """
        if name in self.columns:
            return name
        found = [column for column in self.columns if _plain(column) == _plain(name)]
        if len(found) != 1:
            what = f"several columns {name!r}" if found else f"no column {name!r}"
            raise CellfeatError(f"{self.source}: {what}; it has {printable(', '.join(self.columns))}")
        return found[0]

    def values(self, name: str) -> list[str]:
        """The values of a column, a row each; see `column`."""
        column = self.column(name)
        return [row[column] for row in self.rows]

    def has(self, names: Sequence[str]) -> bool:
        """Whether it has all these columns."""
        return {_plain(name) for name in names} <= {_plain(column) for column in self.columns}


def read_table(path: Path, comments: bool = False) -> Table:
    """Read a table; its first line names the columns.

    The delimiter is the one of comma, semicolon and tab that gives the first line the most columns.

    Args:
        path: The file.
        comments: Whether lines that start with # are left out.

    Raises:
        CellfeatError: No such file, not UTF-8 or UTF-16, no column names, a name that occurs twice, a row with more
            values than columns, or a quote that is not closed.
    """
    if not path.exists():
        raise CellfeatError(f"{path}: no such table", "correct its name, or run the prepare script of a public dataset")
    return parse_table(read_text(path), str(path), comments)


def parse_table(text: str, source: str, comments: bool = False) -> Table:
    """A table from its text; see `read_table`."""
    lines = text.split("\n")
    if comments:
        lines = ["" if line.startswith("#") else line for line in lines]  # line numbers stay
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise CellfeatError(f"{source}: an empty table; its first line must name the columns")
    if named := SEPARATOR_LINE.fullmatch(lines[first].strip()):
        delimiter, first = named[1], first + 1
    else:
        delimiter = max(
            DELIMITERS, key=lambda mark: len(next(csv.reader([lines[first]], delimiter=mark, skipinitialspace=True)))
        )
    reader = csv.reader(lines[first:], delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, ends = [], []
    try:
        for values in reader:
            if any(value.strip() for value in values):
                rows.append([value.strip() for value in values])
                ends.append(first + reader.line_num)
    except csv.Error as error:
        line = first + reader.line_num
        raise CellfeatError(f"{source}, line {line}: not a table ({error})", "close or double its quotes") from None
    if not rows:
        raise CellfeatError(f"{source}: an empty table; its first line must name the columns")
    columns = rows[0]
    if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise CellfeatError(f"{source}: two columns are named {twice[0]!r}", "rename one")
    for values, line in zip(rows[1:], ends[1:]):
        if any(values[len(columns) :]):
            shown = {"\t": "tab"}.get(delimiter, delimiter)
            raise CellfeatError(
                f"{source}, line {line}: {len(values)} values for {len(columns)} columns",
                f"put values that hold a {shown} into double quotes",
            )
    padded = [values + [""] * (len(columns) - len(values)) for values in rows[1:]]
    named_rows = [{name: value for name, value in zip(columns, values) if name} for values in padded]
    return Table(source, tuple(name for name in columns if name), named_rows, ends[1:])


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _plain(name: str) -> str:
    """A column name for comparison."""
    return "".join(unicodedata.normalize("NFC", name).casefold().split())
