"""Label vocabularies: from each site's own codes to the 13 classes that all sites share.

A vocabulary is a CSV file `code,class,note` in the folder `vocabularies` (lines that start with # are comments). The
class is one of the 13 (file `harmonised.csv`), or one of two words:

- `drop`: images of this code are left out on purpose; the note says why.
- `unlabelled`: images of this code are kept without a label, because the code fits more than one of the 13 classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellfeat.errors import CellfeatError

DROP, UNLABELLED = "drop", "unlabelled"


@dataclass(frozen=True)
class Vocabulary:
    """What one site's codes mean.

    Attributes:
        name: Name of the file, without suffix.
        meaning: Code (white space removed) to class, `drop` or `unlabelled`.
        notes: Code (white space removed) to the note beside it.
    """

    name: str
    meaning: dict[str, str]
    notes: dict[str, str]

    def harmonise(self, codes: Iterable[str], source: str) -> list[str | None]:
        """Translate codes into the 13 classes.

        Upper and lower case differ, white space does not count, and an empty code is an image without a label.

        Args:
            codes: The site's codes, one an image.
            source: Where they come from, for the error message.

        Returns:
            For each code its class, "" if the image is kept without a label, None if it is left out on purpose.

        Raises:
            CellfeatError: Codes that the vocabulary does not hold; the message lists all of them.
        """
        keys = [_squeeze(code) for code in codes]
        if unknown := sorted(set(keys) - set(self.meaning) - {""}):
            raise CellfeatError(
                f"{source}: unknown codes {', '.join(unknown)}; vocabulary {self.name} holds "
                f"{', '.join(self.meaning)}: add them there with their class, drop or unlabelled, or correct the labels"
            )
        return [self._class_of(key) for key in keys]

    def _class_of(self, key: str) -> str | None:
        meaning = self.meaning.get(key, UNLABELLED)
        return {DROP: None, UNLABELLED: ""}.get(meaning, meaning)


def vocabulary_names() -> list[str]:
    """Names of the vocabularies that come with the package."""
    return sorted(entry.name.removesuffix(".csv") for entry in _folder().iterdir() if entry.name.endswith(".csv"))


def load_vocabulary(name: str | Path) -> Vocabulary:
    """Load a vocabulary.

    Args:
        name: One of `vocabulary_names()`, or the path of a CSV file `code,class,note` (it ends in .csv).

    Raises:
        CellfeatError: No such vocabulary, a class that is not one of the 13, or a code that is written down twice.
    """
    if str(name).endswith(".csv"):
        path = Path(name)
        if not path.is_file():
            raise CellfeatError(f"{path}: no such vocabulary file; write one with the columns code,class,note")
        text, label = path.read_text(encoding="utf-8-sig"), str(path)
    else:
        if name not in vocabulary_names():
            raise CellfeatError(
                f"vocabulary {name!r}: unknown; choose one of {', '.join(vocabulary_names())} or give a .csv file"
            )
        text, label = (_folder() / f"{name}.csv").read_text(encoding="utf-8"), f"{name}.csv"

    meaning: dict[str, str] = {}
    notes: dict[str, str] = {}
    for row in _rows(text, label):
        code = _squeeze(row["code"])
        if code in meaning:
            raise CellfeatError(f"{label}: code {row['code']!r} is written down twice; keep one of the lines")
        if row["class"] not in (*CLASSES, DROP, UNLABELLED):
            raise CellfeatError(
                f"{label}: code {row['code']!r} has class {row['class']!r}; "
                f"use drop, unlabelled or one of {', '.join(CLASSES)}"
            )
        meaning[code], notes[code] = row["class"], row["note"]
    return Vocabulary(Path(name).stem, meaning, notes)


def _folder() -> Any:  # importlib's Traversable has moved between Python versions
    return files("cellfeat.data") / "vocabularies"


def _squeeze(code: str) -> str:
    return "".join(code.split())


def _rows(text: str, label: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines)
    if reader.fieldnames is None or not {"code", "class"} <= set(reader.fieldnames):
        raise CellfeatError(f"{label}: the first line must name the columns code,class,note")
    for row in reader:
        yield {key: (row.get(key) or "").strip() for key in ("code", "class", "note")}


CLASSES: tuple[str, ...] = tuple(
    row["class"] for row in _rows((_folder() / "harmonised.csv").read_text(encoding="utf-8"), "harmonised.csv")
)
"""The 13 classes that all sites share, in alphabetical order."""
