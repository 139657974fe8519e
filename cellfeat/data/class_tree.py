"""Classes and their parents: the 13 that come with the package, or a project's own beside them.

    neutrophil
    ├── neutrophil_band
    └── neutrophil_segmented

A project writes its classes into a table `class,parent,note`, the parent being empty or another class. Names are free.
The 13 are always there; the table may give them parents. Two sites that label at different levels are compared at the
finest level that both have: see `ClassTree.shared`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cellfeat.data.tables import Table, parse_table, read_table
from cellfeat.errors import CellfeatError

DROP, UNLABELLED = "drop", "unlabelled"
"""Words of vocabularies that are no classes."""

VOCABULARIES: Any = files("cellfeat.data") / "vocabularies"  # importlib's Traversable moved between Python versions

CLASSES: tuple[str, ...] = tuple(
    parse_table((VOCABULARIES / "harmonised.csv").read_text("utf-8"), "harmonised.csv", comments=True).values("class")
)
"""The 13 classes that all sites share, in alphabetical order."""


@dataclass(frozen=True)
class ClassTree:
    """Classes, and of which other class each is a kind.

    Attributes:
        parent: Class to its parent, "" where it has none.
    """

    parent: Mapping[str, str]

    def __contains__(self, name: object) -> bool:
        return name in self.parent

    def __iter__(self) -> Iterator[str]:
        return iter(self.parent)

    def with_ancestors(self, name: str) -> list[str]:
        """A class, its parent, the parent's parent and so on; a name that is no class of the tree has no parent."""
        line = [name]
        while parent := self.parent.get(line[-1], ""):
            line.append(parent)
        return line

    def shared(self, one: Iterable[str], other: Iterable[str]) -> dict[str, str]:
        """The class at which cells of two sites can be compared: the finest level that both sites have.

        Where one site tells band from segmented neutrophils and the other does not, both are neutrophils. Where both
        tell them apart, cells that one of them only calls neutrophil belong to neither and are left out.

        Args:
            one: The labels of one site; "" does not count.
            other: The labels of the other.

        Returns:
            Every label of either site to the class of the comparison, "" where there is none. Classes of the
            comparison exclude each other.
        """
        labels = [set(site) - {""} for site in (one, other)]
        lines = {label: self.with_ancestors(label) for label in labels[0] | labels[1]}
        sides = [{name for label in site for name in lines[label]} for site in labels]
        both = sides[0] & sides[1]
        divided = {ancestor for name in both for ancestor in self.with_ancestors(name)[1:]}
        nearest = {label: next((name for name in line if name in both), "") for label, line in lines.items()}
        return {label: "" if name in divided else name for label, name in sorted(nearest.items())}


THE_CLASSES = ClassTree(dict.fromkeys(CLASSES, ""))
"""The 13 classes that all sites share, without parents."""


def load_classes(path: Path) -> ClassTree:
    """Read a project's classes from a table `class,parent,note`; lines that start with # are comments.

    Raises:
        CellfeatError: The table is missing or damaged, a class has no name or occurs twice, a parent is no class, or
            a class is its own ancestor.
    """
    table = read_table(path, comments=True)
    parents = _parents(table)
    parent = dict(THE_CLASSES.parent) | parents
    for name, above in parents.items():
        if above and above not in parent:
            raise CellfeatError(f"{path}: the parent {above!r} of {name!r} is no class", "give it a line of its own")
    for name in parents:
        seen = {name}
        while above := parent[name]:
            if above in seen:
                raise CellfeatError(f"{path}: class {above!r} is its own ancestor", "correct the column parent")
            seen.add(above)
            name = above
    return ClassTree(parent)


def _parents(table: Table) -> dict[str, str]:
    parents: dict[str, str] = {}
    above = table.values("parent") if table.has(["parent"]) else [""] * len(table.rows)
    for name, parent, line in zip(table.values("class"), above, table.lines):
        if not name or name in (DROP, UNLABELLED):
            raise CellfeatError(f"{table.source}, line {line}: {name!r} cannot be a class", "give it a name")
        if name in parents:
            raise CellfeatError(f"{table.source}, line {line}: class {name!r} occurs twice", "keep one of the lines")
        parents[name] = parent
    return parents
