"""Label vocabularies: from each site's own codes to classes.

A vocabulary is a table `code,class,note`, in the folder `vocabularies` or of one's own (lines that start with # are
comments). The class is one of the 13, or of the project's own (`cellfeat.data.class_tree`), or one of two words:

- `drop`: images of this code are left out on purpose; the note says why.
- `unlabelled`: images of this code are kept without a label, because the code fits more than one class.

A code counts as written. Where that is not found, upper and lower case, white space, hyphens, underscores and Unicode
form do not count. Several codes in one, such as "eosinophil, lymphocyte", name several cells of one picture: it has a
class if all of them have the same, else nobody knows which cell is which, and it is unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cellfeat.core.text import decode
from cellfeat.data.class_tree import (
    CLASSES,
    DROP,
    THE_CLASSES,
    UNLABELLED,
    VOCABULARIES,
    ClassTree,
    class_tree,
    fold,
    joined_classes,
)
from cellfeat.data.tables import Table, parse_table, read_table
from cellfeat.errors import CellfeatError

__all__ = ["CLASSES", "Vocabulary", "classes_of", "load_vocabulary", "vocabulary_names"]

BETWEEN_CODES = re.compile(r"[,;/|&+]|\sand\s")


@dataclass(frozen=True)
class Vocabulary:
    """What one site's codes mean.

    Attributes:
        name: Name of the file, without suffix.
        meaning: Code (white space removed) to class, `drop` or `unlabelled`.
        notes: Code (white space removed) to the note beside it.
    """

    name: str
    meaning: Mapping[str, str]
    notes: Mapping[str, str]

    def harmonise(self, codes: Iterable[str], source: str) -> list[str | None]:
        """Translate codes, all of which must be known.

        Args:
            codes: The site's codes, one an image.
            source: Where they come from, for the error message.

        Returns:
            As `translate`.

        Raises:
            CellfeatError: Codes that the vocabulary does not hold; the message lists all of them.
        """
        codes = list(codes)
        if unknown := self.unknown(codes):
            raise CellfeatError(
                f"{source}: unknown codes {', '.join(unknown)}; vocabulary {self.name} holds "
                f"{', '.join(self.meaning)}: add them there with their class, drop or unlabelled, or correct the labels"
            )
        return self.translate(codes)

    def translate(self, codes: Iterable[str]) -> list[str | None]:
        """Translate codes; one that is not known is an image without a label, as an empty one is.

        Returns:
            For each code its class, "" if the image is kept without a label, None if it is left out on purpose.
        """
        words = {UNLABELLED: "", DROP: None}
        meanings = [self._meaning(code) or UNLABELLED for code in codes]
        return [words.get(meaning, meaning) for meaning in meanings]

    def unknown(self, codes: Iterable[str]) -> list[str]:
        """The codes, sorted, that the vocabulary does not hold, and of several in one the parts."""
        return sorted({code for code in set(codes) if code.strip() and not self._is_known(code)})

    def _is_known(self, code: str) -> bool:
        return self._single(code) is not None or all(self._single(part) is not None for part in code_parts(code))

    def _meaning(self, code: str) -> str | None:
        if (single := self._single(code)) is not None or len(parts := code_parts(code)) < 2:
            return single
        meanings = {self._single(part) for part in parts}
        return meanings.pop() if len(meanings) == 1 else UNLABELLED

    def _single(self, code: str) -> str | None:
        """The meaning of one code."""
        return self.meaning.get(_squeeze(code), self._folded.get(fold(code)))

    @cached_property
    def _folded(self) -> dict[str, str]:
        """Meanings by folded code, where these do not contradict each other."""
        found: dict[str, set[str]] = {}
        for code, meaning in self.meaning.items():
            found.setdefault(fold(code), set()).add(meaning)
        return {code: next(iter(meanings)) for code, meanings in found.items() if len(meanings) == 1}


OWN_CLASSES = {"five-part": {"neutrophil": "", "neutrophil_band": "neutrophil", "neutrophil_segmented": "neutrophil"}}
"""Class to parent of what a vocabulary that comes along names beside the 13."""


def classes_of(vocabulary: str | Path, own: ClassTree = THE_CLASSES) -> ClassTree:
    """The classes that a vocabulary may name: the 13, what it brings itself, and a project's own.

    Raises:
        CellfeatError: The project gives one of them another parent.
    """
    brought = OWN_CLASSES.get(str(vocabulary))
    if brought is None:
        return own
    return joined_classes({f"vocabulary {vocabulary}": class_tree(brought, str(vocabulary)), "labels.classes": own})


def vocabulary_names() -> list[str]:
    """Names of the vocabularies that come with the package."""
    return sorted(entry.name.removesuffix(".csv") for entry in VOCABULARIES.iterdir() if entry.name.endswith(".csv"))


def load_vocabulary(name: str | Path, classes: ClassTree = THE_CLASSES) -> Vocabulary:
    """Load a vocabulary.

    Args:
        name: One of `vocabulary_names()`, or the path of a table `code,class,note` (it ends in .csv). In `harmonised`
            the codes are the classes themselves.
        classes: The classes that there are, beside those that the vocabulary brings, see `classes_of`.

    Raises:
        CellfeatError: No such vocabulary, a class that is none, or a code that is written down twice.
    """
    classes = classes_of(name, classes)
    if name == "harmonised":
        return Vocabulary(name, {_squeeze(one): one for one in classes}, dict.fromkeys(map(_squeeze, classes), ""))
    if str(name).lower().endswith(".csv"):
        if not Path(name).exists():
            raise CellfeatError(f"{name}: no such vocabulary file; write one with the columns code,class,note")
        table = read_table(Path(name), comments=True)
    else:
        if name not in vocabulary_names():
            raise CellfeatError(
                f"vocabulary {name!r}: unknown; choose one of {', '.join(vocabulary_names())} or give a .csv file"
            )
        content = (VOCABULARIES / f"{name}.csv").read_bytes()
        table = parse_table(decode(content, f"{name}.csv"), f"{name}.csv", comments=True)
    return _vocabulary(Path(name).stem, table, classes)


def _vocabulary(name: str, table: Table, classes: ClassTree) -> Vocabulary:
    if not table.has(["code", "class"]):
        raise CellfeatError(f"{table.source}: the first line must name the columns code,class,note")
    by_fold = {fold(one): one for one in (*classes, DROP, UNLABELLED)}
    written = table.values("note") if table.has(["note"]) else [""] * len(table.rows)
    meaning: dict[str, str] = {}
    notes: dict[str, str] = {}
    for code, named, note in zip(table.values("code"), table.values("class"), written):
        key = _squeeze(code)
        if key in meaning:
            raise CellfeatError(f"{table.source}: code {code!r} is written down twice; keep one of the lines")
        if fold(named) not in by_fold:
            raise CellfeatError(
                f"{table.source}: code {code!r} has class {named!r}; use drop, unlabelled or one of "
                f"{', '.join(classes)}, or write it into a table of your own classes (labels.classes)"
            )
        meaning[key], notes[key] = by_fold[fold(named)], note
    return Vocabulary(name, meaning, notes)


def _squeeze(code: str) -> str:
    return "".join(code.split())


def code_parts(code: str) -> list[str]:
    """The codes that a code of several cells consists of."""
    return [part for part in BETWEEN_CODES.split(code) if part.strip()]
