"""Which cells may be learned from and which are kept to be tested on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from cellfeat.core.spreadsheet import with_formulas
from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError


def stratified_split(table: pd.DataFrame, test_fraction: float = 0.2, seed: int = 0) -> pd.Series:
    """Split each domain into a train and a test part, class by class; a group of images stays on one side.

    Units, that is groups where they are known and else single images, are ordered by a hash of their name and `seed`,
    so that a cell's part depends neither on the order of the rows nor on the other domains in the table. In this order
    a unit is tested on if it brings its classes nearer to their shares. An image counts as the last of its cells'
    labels in alphabetical order, unlabelled images as a class of their own.

    Args:
        table: One row a cell: cell_id (unique), domain, label ("" where unknown) and, optionally, image_id and group
            (the patient; "" where unknown; names count within a domain).
        test_fraction: Share of the images of every class that is tested on, rounded, at least one image. A class of
            a single unit goes to the train part. Where groups hold several classes, shares are met as nearly as
            their sizes allow.
        seed: Another seed gives another split.

    Returns:
        "train" or "test" of each cell, indexed by cell_id in the order of `table`.

    Raises:
        CellfeatError: `test_fraction` is not between 0 and 1, or a cell_id occurs twice.
    """
    if not 0 < test_fraction < 1:
        raise CellfeatError(f"test_fraction: {test_fraction} must lie between 0 and 1")
    if table["cell_id"].duplicated().any():
        raise CellfeatError(f"cell_id: {table['cell_id'][table['cell_id'].duplicated()].iloc[0]!r} occurs twice")

    unit = units_of(table)
    image = table["image_id"] if "image_id" in table else table["cell_id"]
    label, _ = pd.factorize(table["label"], sort=True)  # numbers: pandas compares texts slowly
    cells = pd.DataFrame({"domain": table["domain"], "unit": unit, "image": image, "label": label})
    images = cells.groupby(["domain", "unit", "image"], sort=False)["label"].max().reset_index()  # "" is the lowest
    tested = {
        (domain, name)
        for domain, of_domain in images.groupby("domain", sort=False)
        for name in _tested_units(of_domain["unit"], of_domain["label"], test_fraction, seed)
    }
    parts = ["test" if key in tested else "train" for key in zip(table["domain"], unit)]
    return pd.Series(parts, index=pd.Index(table["cell_id"], name="cell_id"), name="part")


def _tested_units(unit: Iterable[str], label: Iterable[int], test_fraction: float, seed: int) -> set[str]:
    """The units of one domain that are tested on, from the unit and the label of each of its images."""
    counts: dict[str, dict[int, int]] = {}  # images by label
    size: Counter[int] = Counter()
    for name, k in zip(unit, label):
        count = counts.setdefault(name, {})
        count[k] = count.get(k, 0) + 1
        size[k] += 1
    learned = Counter(k for count in counts.values() for k in count)  # units that a class is learned from
    missing = {k: max(1, round(size[k] * test_fraction)) if learned[k] > 1 else 0 for k in size}  # images to test on
    tested: set[str] = set()

    def nearer(name: str) -> int:
        """By how many images it brings the classes nearer to their shares."""
        return sum(abs(missing[k]) - abs(missing[k] - n) for k, n in counts[name].items())

    def test(name: str) -> None:
        tested.add(name)
        for k, n in counts[name].items():
            missing[k] -= n
            learned[k] -= 1

    order = sorted(counts, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).hexdigest())
    for name in order:
        if nearer(name) > 0 and all(learned[k] > 1 for k in counts[name]):
            test(name)
    for k in sorted(size):  # a class that only large groups hold
        if missing[k] > 0 and not any(k in counts[name] for name in tested):
            able = [name for name in order if k in counts[name] and all(learned[j] > 1 for j in counts[name])]
            if able:
                test(max(able, key=nearer))
    return tested


def units_of(table: pd.DataFrame) -> pd.Series:
    """What a split must not divide, for each row: its group where it is known, else its image, else the cell.

    Args:
        table: With the column cell_id and, optionally, image_id and group. Names count within a domain.
    """
    units = table["image_id" if "image_id" in table else "cell_id"]
    return units.mask(table["group"] != "", table["group"]) if "group" in table else units


def folds(strata: np.ndarray, unit: np.ndarray, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of a cross-validation in which every stratum has its share as nearly as whole units allow.

    Args:
        strata: (n,) what shall be in every fold, such as classes.
        unit: (n,) what must not be divided, see `units_of`; names of different domains must differ.
        count: Number of folds.
        seed: Of the shuffle.

    Returns:
        For each fold the rows to learn from and the rows to test on.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rows = np.zeros(len(unit))
    if len(np.unique(unit)) == len(unit):
        return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(rows, strata))
    return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(rows, strata, unit))


def patients_known(table: pd.DataFrame) -> pd.DataFrame:
    """For how many cells of each domain the group (the patient) is known.

    Where it is not, cells of one patient may be on both sides of every split, and scores within the domain are better
    than those of new patients.

    Args:
        table: As `Store.table()`; without a column group nothing is known.

    Returns:
        Indexed by domain, in alphabetical order: cells, known (cells whose group is known) and groups, all int.
    """
    group = table["group"] if "group" in table else table["domain"].map(lambda _: "")
    known = group.where(group != "")
    by_domain = known.groupby(table["domain"])
    return pd.DataFrame({"cells": by_domain.size(), "known": by_domain.count(), "groups": by_domain.nunique()})


def divided_groups(table: pd.DataFrame, split: pd.Series) -> list[tuple[str, str]]:
    """The (domain, group) that have cells on both sides of a split, sorted: one that was made without groups.

    Args:
        table: As `Store.table()`.
        split: "train" or "test", indexed by cell_id; cells that it lacks do not count.
    """
    if "group" not in table:
        return []
    part = split.reindex(table["cell_id"]).to_numpy()
    grouped = table.assign(part=part)[(table["group"] != "").to_numpy()]
    sides = grouped.groupby(["domain", "group"])["part"].nunique()
    return sorted(sides.index[sides > 1])


def read_split(path: str | Path) -> pd.Series:
    """Read a split: a table with the columns cell_id and part.

    Returns:
        "train" or "test" of each cell, indexed by cell_id.

    Raises:
        CellfeatError: The file is missing, lacks a column, names a cell twice or a part other than train and test.
    """
    read = read_table(Path(path))
    columns = {name: read.values(name) for name in ("cell_id", "part")}
    table = with_formulas(pd.DataFrame(columns, dtype=object))
    if unknown := set(table["part"]) - {"train", "test"}:
        raise CellfeatError(f"{path}: part {sorted(unknown)[0]!r} is neither train nor test")
    if table["cell_id"].duplicated().any():
        raise CellfeatError(f"{path}: names cell {table['cell_id'][table['cell_id'].duplicated()].iloc[0]!r} twice")
    return table.set_index("cell_id")["part"]
