"""What a dataset's folders and tables say about each image: its label code, its group, its metadata."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellfeat.core.pattern import compile_pattern
from cellfeat.core.text import printable
from cellfeat.data.file_names import FileNames
from cellfeat.data.spec import DatasetSpec
from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError


class ImageFacts:
    """Label codes, groups and metadata of the images of a dataset.

    Args:
        spec: The dataset's description.
        folder: Its folder.
        files: Its images: path below the image root, with forward slashes, to file.

    Attributes:
        absent: Table to the rows of which no image is there.
        unlisted: Table to the images that it does not list; they have no label, group or metadata.
    """

    def __init__(self, spec: DatasetSpec, folder: Path, files: Mapping[str, Path]) -> None:
        self._spec, self._folder, self._files = spec, folder, files
        self._names = FileNames(files)
        self.absent: dict[str, list[str]] = {}
        self.unlisted: dict[str, list[str]] = {}

    @cached_property
    def codes(self) -> dict[str, str]:
        """The label code of every image, "" where it has none; all "" where codes come from a COCO file."""
        source = self._spec.labels
        codes = dict.fromkeys(self._files, "")
        if source.kind == "folder":
            codes.update({key: PurePosixPath(key).parts[0] for key in self._files if "/" in key})
        elif source.kind == "csv":
            codes.update(self._labelled[source.code_column])
        return codes

    @cached_property
    def second_codes(self) -> dict[str, str] | None:
        """The code that a second expert gave every image, "" where it has none; None where there is one expert."""
        column = self._spec.labels.second_code_column
        return None if column is None else dict.fromkeys(self._files, "") | self._labelled[column]

    @cached_property
    def _labelled(self) -> dict[str, dict[str, str]]:
        source = self._spec.labels
        columns = [column for column in (source.code_column, source.second_code_column) if column is not None]
        return self._read_columns(str(source.file), columns)

    @cached_property
    def metadata(self) -> dict[str, dict[str, str]]:
        """Column to the value of each image that the table lists, of the columns that the dataset keeps."""
        return self._read_columns(str(self._spec.images_table), self._spec.columns) if self._spec.columns else {}

    @cached_property
    def groups(self) -> dict[str, str]:
        """The group of the images that have one.

        Raises:
            CellfeatError: No image has one: the folder level or the pattern is wrong.
        """
        source = self._spec.group
        if source is None:
            return {}
        if source.column is not None:
            found = self.metadata[source.column]
        else:
            find = _folder(source.folder) if source.folder is not None else _match(str(source.pattern))
            found = {key: find(unicodedata.normalize("NFC", key)) for key in self._files}
        groups = {
            key: re.sub(r"^(\d+)\.0+$", r"\1", group) for key, group in found.items() if group
        }  # Excel's 7.0 is 7
        if not groups:
            how = next(f"{name} {value!r}" for name, value in source if value is not None)
            raise CellfeatError(
                f"dataset {self._spec.name}: group: {how} gives none of its {len(self._files)} images a group",
                f"correct it; the first image is {next(iter(self._files))}",
            )
        return groups

    def _read_columns(self, name: str, columns: Sequence[str]) -> dict[str, dict[str, str]]:
        """Columns of a table of images: column to the value of each image that the table lists."""
        path = self._folder / name
        table = read_table(path)
        if not table.has([self._spec.labels.file_column]):
            raise CellfeatError(
                f"{path}: no column {self._spec.labels.file_column!r}; it has {printable(', '.join(table.columns))}",
                "name the column of image files in labels.file_column",
            )
        written, values = table.values(self._spec.labels.file_column), [table.values(column) for column in columns]
        found: dict[str, int] = {}
        absent = self.absent[name] = []
        for row, file in enumerate(written):
            key = self._names.find(file) if file else None
            if key is None:
                absent.append(printable(file) or f"line {table.lines[row]}, which names no file")
            elif key in found:
                lines = f"{table.lines[found[key]]} and {table.lines[row]}"
                raise CellfeatError(f"{path}: {key} is listed twice, in lines {lines}", "keep one line for each image")
            else:
                found[key] = row
        if not found:
            first_name = f", first {absent[0]}" if absent else ""
            raise CellfeatError(
                f"{path}: none of its {len(written)} images is in {self._folder / self._spec.images}{first_name}",
                "complete the download, or correct the keys images and labels.file_column",
            )
        self.unlisted[name] = [key for key in self._files if key not in found]
        return {
            column: {key: unicodedata.normalize("NFC", column_values[row]) for key, row in found.items()}
            for column, column_values in zip(columns, values)
        }


def _folder(level: int) -> Callable[[str], str]:
    """The folder of a level in the path of an image, "" where it lies higher."""

    def find(key: str) -> str:
        folders = PurePosixPath(key).parent.parts
        return folders[level - 1] if len(folders) >= level else ""

    return find


def _match(pattern: str) -> Callable[[str], str]:
    """What the first parentheses of a pattern match in the path of an image, "" where there is no match."""
    compiled = compile_pattern(pattern)

    def find(key: str) -> str:
        match = compiled.search(key)
        return (match[1 if compiled.groups else 0] or "") if match else ""

    return find
