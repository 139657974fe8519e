"""Which classes of a file are white blood cells; classes are compared by value, not by how they are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from cellfeat.core.text import printable
from cellfeat.errors import CellfeatError


def same(name: str | int | float) -> str:
    """The form in which classes are compared: `0`, `"0"` and `"0.0"` are one class, and `WBC` and ` wbc ` are."""
    text = unicodedata.normalize("NFC", str(name)).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


class Wanted:
    """The classes that are white blood cells; `name in wanted` tells for each."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {same(name) for name in names}

    def __contains__(self, name: str) -> bool:
        return same(name) in self._names

    @classmethod
    def of(cls, chosen: Iterable[str | int] | None, known: Mapping[str, str], source: str, noun: str) -> Wanted:
        """The chosen classes among those that a file lists.

        Args:
            chosen: Names or ids; None: the file's only class.
            known: Name to id of the file's classes.
            source: The file, for messages.
            noun: What the file calls its classes, for messages.

        Raises:
            CellfeatError: A chosen class that the file does not list, or several classes and no choice.
        """
        if chosen is None:
            check_one_class(known, source, noun)
            return cls(known)
        ids = {same(id_): name for name, id_ in known.items()} | {same(name): name for name in known}
        chosen = list(chosen)
        if absent := [str(name) for name in chosen if same(name) not in ids]:
            raise CellfeatError(f"{source}: has no {noun} {', '.join(sorted(absent))}; it has {_listed(known)}")
        return cls(ids[same(name)] for name in chosen)


def check_one_class(known: Iterable[str], source: str, noun: str) -> None:
    """Ask for a choice where a file has several classes; see `Wanted.of`."""
    known = list(known)
    if len({same(name) for name in known}) > 1:
        raise CellfeatError(
            f"{source}: has the {noun} {_listed(known)}",
            "name those of white cells in classes (in coco_categories beside the key coco)",
        )


def _listed(known: Iterable[str]) -> str:
    return printable(", ".join(known)) or "none"
