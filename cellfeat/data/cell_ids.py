"""Which rows belong together: rows are matched by cell_id here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    import pandas as pd


def rows_of(cell_id: Any, among: Any, source: object, remedy: str = "") -> np.ndarray:
    """Where each of the cells `cell_id` is among the rows of a table or file.

    Args:
        cell_id: (m,) ids of the wanted cells; an id may be asked for twice.
        among: (n,) ids of the rows to look in.
        source: What holds these rows, for the message: a path, or "the split".
        remedy: What to do where they do not fit.

    Returns:
        (m,) int, `among[rows]` equals `cell_id`.

    Raises:
        CellfeatError: An id occurs twice in `among`, or a wanted one is not there.
    """
    import pandas as pd

    index, wanted = pd.Index(among), pd.Index(cell_id)
    if not index.is_unique:
        raise CellfeatError(f"{source}: cell {index[index.duplicated()][0]!r} occurs twice", remedy)
    rows = index.get_indexer(wanted)
    if (absent := rows < 0).any():
        counted = f"lacks {int(absent.sum())} of {len(wanted)} cells, the first is {wanted[absent][0]!r}"
        raise CellfeatError(f"{source}: {counted}", remedy)
    return rows


def parts_of(split: pd.Series, cell_id: Any, absent: str | None = None) -> np.ndarray:
    """The part of each cell: "train" or "test".

    Args:
        split: Parts indexed by cell_id, as `stratified_split` and `read_split` give them.
        cell_id: (n,) ids.
        absent: The part of cells that the split does not name; None refuses them.

    Returns:
        (n,) str.

    Raises:
        CellfeatError: The split lacks a cell or names one twice.
    """
    if absent is None:
        rows = rows_of(cell_id, split.index, "split", "give the split.csv that was made from this store")
        return split.to_numpy(str)[rows]
    return split.reindex(cell_id).fillna(absent).to_numpy(str)
