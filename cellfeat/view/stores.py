"""Several stores as one run of cells: what the page shows of two dumps of the same images, or of two studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cellfeat.errors import CellfeatError
from cellfeat.store import Store

STORE = "store"  # the column that tells the stores from each other, where there are several


@dataclass(frozen=True)
class Part:
    """One of the stores.

    Attributes:
        store: It.
        name: What it is called on the page: its folder's name, with those above where two have the same.
        rows: Its cells among all.
    """

    store: Store
    name: str
    rows: slice


class Stores:
    """The cells of one store or more, those of the first store first.

    Args:
        stores: Of different content.

    Attributes:
        parts: The stores.
        table: `Store.table()` of all, in this order; metadata that a store lacks is "". Of several stores, with the
            column `store`.
        metadata: Names of the metadata columns of any of them.

    Raises:
        CellfeatError: One has no cell, or two hold the same.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        for k, store in enumerate(stores):
            if not len(store):
                raise CellfeatError(f"{store.path}: holds no cell", "give a store with cells")
            if store.digest in [other.digest for other in stores[:k]]:
                raise CellfeatError(f"{store.path}: holds the same as another one that is shown", "give it once")
        ends = np.cumsum([0, *map(len, stores)]).tolist()
        names = _names([store.path for store in stores])
        self.parts = [Part(*part) for part in zip(stores, names, map(slice, ends, ends[1:]))]
        tables = [store.table() for store in stores]
        if len(stores) > 1:
            tables = [table.assign(**{STORE: name}) for table, name in zip(tables, names)]
        self.metadata = list(dict.fromkeys(name for store in stores for name in store.metadata))
        self.table = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)
        self.table[self.metadata] = self.table[self.metadata].fillna("")

    def part_of(self, row: int) -> Part:
        """The store that a cell is of."""
        return next(part for part in self.parts if row < part.rows.stop)

    def part_with(self, digest: str, source: Path, verb: str) -> Part:
        """The store that a file was made from.

        Args:
            digest: That the file states.
            source: The file, for the message.
            verb: What to do again.

        Raises:
            CellfeatError: It was made from none of these.
        """
        for part in self.parts:
            if part.store.digest == digest:
                return part
        shown = ", ".join(part.store.digest[:12] for part in self.parts)
        raise CellfeatError(f"{source}: of another store ({digest[:12]}, shown is {shown})", f"{verb} this store")

    def read(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """Rows of an array, in any order, see `Store.read`; of stores whose rows have one shape."""
        array = np.asarray(rows)
        found: list[np.ndarray | None] = [None] * len(array)
        for part in self.parts:
            own = np.flatnonzero((array >= part.rows.start) & (array < part.rows.stop))
            if len(own):
                for at, values in zip(own, part.store.read(name, array[own] - part.rows.start)):
                    found[at] = values
        return np.stack([values for values in found if values is not None])


def _names(paths: Sequence[Path]) -> list[str]:
    """As short a path as tells each store from the others."""
    whole = [path.resolve() for path in paths]
    for depth in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in whole]
