"""Which cells may be learned from and which are kept to be tested on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    import pandas as pd


def stratified_split(table: pd.DataFrame, test_fraction: float = 0.2, seed: int = 0) -> pd.Series:
    """Split each domain into a train and a test part, class by class.

    Images are ordered by a hash of their id and `seed`, so that a cell's part depends neither on the order of the rows
    nor on the other domains in the table. The cells of one image stay together when `table` has an `image_id` column;
    an image counts as the last of its cells' labels in alphabetical order, unlabelled images as a class of their own.

    Args:
        table: One row a cell: cell_id (unique), domain, label ("" where unknown) and, optionally, image_id.
        test_fraction: Share of the images of every class that is tested on, rounded, at least one image. A class with
            a single image goes to the train part.
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

    cells = table[["cell_id", "domain", "label"]].assign(image=table["image_id" if "image_id" in table else "cell_id"])
    images = cells.groupby(["domain", "image"], sort=False)["label"].max().reset_index()  # "" sorts before any class
    images["key"] = [hashlib.sha256(f"{seed}/{image}".encode()).hexdigest() for image in images["image"]]
    images = images.sort_values("key")

    group = images.groupby(["domain", "label"])
    size = group["image"].transform("size")
    tested = (size * test_fraction).round().clip(lower=1).where(size > 1, 0)
    images["part"] = (group.cumcount() < tested).map({True: "test", False: "train"})
    parts = cells.merge(images[["domain", "image", "part"]], on=["domain", "image"], how="left")
    return parts.set_index("cell_id")["part"]


def read_split(path: str | Path) -> pd.Series:
    """Read a split that was written as CSV with the columns cell_id and part.

    Returns:
        "train" or "test" of each cell, indexed by cell_id.

    Raises:
        CellfeatError: The file is missing, lacks a column, names a cell twice or a part other than train and test.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such file") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CellfeatError(f"{path}: not a CSV file ({str(error).strip()})") from None
    if missing := {"cell_id", "part"} - set(table.columns):
        raise CellfeatError(f"{path}: lacks the column {sorted(missing)[0]}; a split has the columns cell_id,part")
    if unknown := set(table["part"]) - {"train", "test"}:
        raise CellfeatError(f"{path}: part {sorted(unknown)[0]!r} is neither train nor test")
    if table["cell_id"].duplicated().any():
        raise CellfeatError(f"{path}: names cell {table['cell_id'][table['cell_id'].duplicated()].iloc[0]!r} twice")
    return table.set_index("cell_id")["part"]
