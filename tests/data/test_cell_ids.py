from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cellfeat.data.cell_ids import parts_of, rows_of
from cellfeat.errors import CellfeatError


def test_rows_come_in_the_order_of_the_wanted_cells():
    among = np.array(["a#0", "b#0", "b#1"])
    assert rows_of(["b#1", "a#0", "b#1"], among, "table").tolist() == [2, 0, 2]
    assert rows_of([], among, "table").tolist() == []


def test_a_missing_cell_is_counted_and_named():
    with pytest.raises(CellfeatError, match=r"^z\.h5: lacks 2 of 3 cells, the first is 'x#0'; embed again$"):
        rows_of(["a#0", "x#0", "y#0"], ["a#0"], "z.h5", "embed again")


def test_a_cell_that_occurs_twice_is_named():
    with pytest.raises(CellfeatError, match=r"^z\.h5: cell 'b#0' occurs twice$"):
        rows_of(["a#0"], ["a#0", "b#0", "b#0"], "z.h5")


def test_parts_follow_the_cells_and_absent_ones_are_refused_unless_given_a_part():
    split = pd.Series(["train", "test"], index=["a#0", "b#0"])
    assert parts_of(split, ["b#0", "a#0"]).tolist() == ["test", "train"]
    assert parts_of(split, ["b#0", "c#0"], absent="").tolist() == ["test", ""]
    with pytest.raises(CellfeatError, match=r"split: lacks 1 of 1 cells, the first is 'c#0'; give the split\.csv"):
        parts_of(split, ["c#0"])
