import numpy as np
import pandas as pd
import pytest
from store_helpers import PROVENANCE, smear, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.join import join_parts


def test_parts_in_order_are_the_whole(tmp_path):
    whole = Store(write(tmp_path / "whole", smear(14)))
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    for _ in range(2):  # what an interrupted join left is in nobody's way
        join_parts(parts, tmp_path / "joined")
    joined = Store(tmp_path / "joined")
    pd.testing.assert_frame_equal(joined.table(), whole.table())
    pd.testing.assert_frame_equal(joined.images(), whole.images())
    np.testing.assert_array_equal(joined.read("features", slice(None)), whole.read("features", slice(None)))
    assert joined.verify() == []


def test_parts_of_other_inputs_are_not_mixed(tmp_path):
    parts = [write(tmp_path / "a", smear(4)), write(tmp_path / "b", smear(4), {**PROVENANCE, "weights": "b" * 64})]
    with pytest.raises(CellfeatError, match="other inputs"):
        join_parts(parts, tmp_path / "joined")
    assert not (tmp_path / "joined" / "manifest.json").exists()
