"""Classes and their parents: the 13 that come with the package, or a project's own beside them.

    neutrophil
    ├── neutrophil_band
    └── neutrophil_segmented

A project writes its classes into a table `class,parent,note`, the parent being empty or another class. Names are free.
The 13 are always there; the table may give them parents. Two sites that label at different levels are compared at the
finest level that both have: see `ClassTree.shared`.
"""

from __future__ import annotations

import re
import unicodedata
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

    @property
    def own(self) -> dict[str, str]:
        """Class to parent of what differs from the 13: what a store keeps of the tree."""
        return {name: above for name, above in self.parent.items() if THE_CLASSES.parent.get(name) != above}


THE_CLASSES = ClassTree(dict.fromkeys(CLASSES, ""))
"""The 13 classes that all sites share, without parents."""


def load_classes(path: Path) -> ClassTree:
    """Read a project's classes from a table `class,parent,note`; lines that start with # are comments.

    Raises:
        CellfeatError: The table is missing or damaged, a class has no name or occurs twice, a parent is no class, or
            a class is its own ancestor.
    """
    return class_tree(_parents(read_table(path, comments=True)), str(path))


def class_tree(own: Mapping[str, str], source: str) -> ClassTree:
    """The 13 classes and a project's own, class to parent ("" for none).

    Raises:
        CellfeatError: A parent is no class, or a class is its own ancestor; the message begins with `source`.
    """
    parent = dict(THE_CLASSES.parent) | dict(own)
    for name, above in own.items():
        if above and above not in parent:
            raise CellfeatError(f"{source}: the parent {above!r} of {name!r} is no class", "give it a line of its own")
    whole: set[str] = set()  # classes whose ancestors are known to end
    for name in own:
        line = [name]
        while (above := parent[line[-1]]) and above not in whole:
            if above in line:
                raise CellfeatError(f"{source}: class {above!r} is its own ancestor", "correct the column parent")
            line.append(above)
        whole.update(line)
    return ClassTree(parent)


def joined_classes(trees: Mapping[str, ClassTree]) -> ClassTree:
    """The classes of several sites as one tree; a site that gives a class no parent does not contradict one that does.

    Args:
        trees: Name of the site, for messages, to its tree.

    Raises:
        CellfeatError: Two sites give a class different parents, or together they make a class its own ancestor.
    """
    own: dict[str, str] = {}
    said_by: dict[str, str] = {}
    for site, tree in trees.items():
        for name, above in tree.own.items():
            if above and own.get(name) and own[name] != above:
                raise CellfeatError(
                    f"class {name!r} is a kind of {own[name]!r} in {said_by[name]} and of {above!r} in {site}",
                    "give both the same table of classes",
                )
            if above or name not in own:
                own[name], said_by[name] = above, site
    return class_tree(own, f"the classes of {', '.join(trees)}")


def _parents(table: Table) -> dict[str, str]:
    """Class to parent; names that differ in spelling alone are one, as in vocabularies."""
    spelled = {fold(name): name for name in CLASSES}
    parents: dict[str, str] = {}
    above = table.values("parent") if table.has(["parent"]) else [""] * len(table.rows)
    for written, parent, line in zip(table.values("class"), above, table.lines):
        if not fold(written) or fold(written) in (DROP, UNLABELLED):
            raise CellfeatError(f"{table.source}, line {line}: {written!r} cannot be a class", "give it a name")
        name = spelled.setdefault(fold(written), unicodedata.normalize("NFC", written))
        if name in parents:
            raise CellfeatError(f"{table.source}, line {line}: class {name!r} occurs twice", "keep one of the lines")
        parents[name] = parent
    return {name: spelled.get(fold(parent), parent) for name, parent in parents.items()}


def fold(name: str) -> str:
    """A class or code without what does not count: case, white space, hyphens, underscores and Unicode form."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name)).casefold()
