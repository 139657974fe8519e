"""Two stores side by side: which cells only one has, and which differ by more than a tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store
from cellfeat.store.schema import cell_elements

BLOCK = 256  # cells compared at a time


@dataclass
class Difference:
    """What differs between two stores.

    Attributes:
        only_first: Ids of the cells that only the first has.
        only_second: Ids of the cells that only the second has.
        changed: Cell id → what differs, in words.
        images: Ids of the images that only one has, or of which size, label, count or reason differ.
    """

    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.only_first or self.only_second or self.changed or self.images)

    def lines(self, most: int = 20) -> Iterator[str]:
        """The difference in words, one line each; of each kind `most` at most, then their number."""
        kinds = {
            "only in the first": self.only_first,
            "only in the second": self.only_second,
            "changed": [f"{name}: {what}" for name, what in self.changed.items()],
            "image differs": self.images,
        }
        for kind, found in kinds.items():
            yield from (f"{kind}: {text}" for text in found[:most])
            if len(found) > most:
                yield f"{kind}: {len(found) - most:,} more"
        if not self:
            yield "no difference"


def diff(first: Store, second: Store, tolerance: float = 0.0) -> Difference:
    """Compare two stores cell by cell, whatever their order and shards.

    Args:
        first: A store.
        second: A store of the same layout.
        tolerance: Largest difference that does not count, in each array's unit (boxes in px, crops in grey levels).

    Raises:
        CellfeatError: The layouts differ, a shard is missing or damaged, or the tolerance is no number from 0 on.
    """
    if not tolerance >= 0:
        raise CellfeatError(f"tolerance: {tolerance} is no number from 0 on")
    if first.layout != second.layout:
        raise CellfeatError(
            f"{first.path} has {first.layout}, {second.path} {second.layout}; their cells cannot be compared"
        )
    one, other = first.table(), second.table()
    here = one["cell_id"].isin(other["cell_id"]).to_numpy()
    result = Difference(
        only_first=one["cell_id"][~here].tolist(),
        only_second=other["cell_id"][~other["cell_id"].isin(one["cell_id"])].tolist(),
    )
    images = [store.images().set_index("image_id").sort_index() for store in (first, second)]
    columns = images[0].columns.union(images[1].columns, sort=False)  # metadata of one alone are empty in the other
    images = [frame.reindex(columns=columns, fill_value="") for frame in images]
    both = images[0].index.intersection(images[1].index)
    unequal = (images[0].loc[both] != images[1].loc[both]).any(axis=1)
    result.images = sorted({*images[0].index.symmetric_difference(images[1].index), *both[unequal]})
    texts = [element.name for element in cell_elements() if element.is_text]
    numbers = [element.name for element in cell_elements() if not element.is_text]
    rows = np.flatnonzero(here)
    counterparts = rows_of(one["cell_id"][here], other["cell_id"], second.path)
    for start in range(0, len(rows), BLOCK):
        mine, theirs = rows[start : start + BLOCK], counterparts[start : start + BLOCK]
        words: list[list[str]] = [[] for _ in mine]
        for name in texts:
            for k, (a, b) in enumerate(zip(one[name].iloc[mine], other[name].iloc[theirs])):
                if a != b:
                    words[k].append(f"{name} {a!r} and {b!r}")
        for name in numbers:
            a, b = (store.read(name, r).astype(np.float32) for store, r in ((first, mine), (second, theirs)))
            largest = np.abs(a - b).reshape(len(mine), -1).max(axis=1)
            for k in np.flatnonzero(~(largest <= tolerance)).tolist():
                words[k].append(f"{name} by up to {largest[k]:.6g}")
        result.changed |= {one["cell_id"].iloc[row]: ", ".join(said) for row, said in zip(mine, words) if said}
    return result
