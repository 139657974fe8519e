"""Labels in place of those of a store: a table cell_id,label, as `cellfeat annotate` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellfeat.core.spreadsheet import with_formulas
from cellfeat.data.cell_ids import rows_of
from cellfeat.data.class_tree import ClassTree
from cellfeat.data.tables import read_table
from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    import pandas as pd


def relabelled(cells: pd.DataFrame, path: Path, tree: ClassTree) -> pd.DataFrame:
    """Cells with the labels of a table; cells that it does not name keep theirs.

    Args:
        cells: With the columns cell_id and label.
        path: A table with the columns cell_id and label, "" for no label; further columns are not read.
        tree: The classes that there are; labels that `cells` has are allowed too.

    Raises:
        CellfeatError: The table is missing or damaged, names a cell twice or one that is not there, or a label that is
            no class.
    """
    import pandas as pd

    read = read_table(path)
    columns = {name: read.values(name) for name in ("cell_id", "label")}
    given = with_formulas(pd.DataFrame(columns, dtype=object))
    known = {"", *tree, *cells["label"]}
    for line, cell, label in zip(read.lines, given["cell_id"], given["label"]):
        if label not in known:
            raise CellfeatError(f"{path}, line {line}: the label {label!r} of {cell!r} is no class", "correct it")
    twice = given["cell_id"][given["cell_id"].duplicated()]
    if len(twice):
        raise CellfeatError(f"{path}: cell {twice.iloc[0]!r} occurs twice", "give a line a cell")
    rows = rows_of(given["cell_id"], cells["cell_id"], "the store", f"{path} must be of this store")
    changed = cells.copy()
    changed.iloc[rows, changed.columns.get_loc("label")] = given["label"].to_numpy(object)
    return changed
