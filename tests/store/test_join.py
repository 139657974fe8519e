import numpy as np
import pandas as pd
import pytest
from store_helpers import PROVENANCE, files, smear, write

from cellfeat.errors import CellfeatError, DifferentInputs
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


def test_another_store_is_not_overwritten(tmp_path):
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    other = write(tmp_path / "other", smear(6), shard_cells=2)
    before = files(other)
    with pytest.raises(DifferentInputs, match="other: was made with shards"):
        join_parts(parts, other)
    (other / "manifest.json").unlink()
    with pytest.raises(DifferentInputs, match=r"part-00000\.h5: is of another store, which has no manifest\.json"):
        join_parts(parts, other)
    assert files(other) == {name: content for name, content in before.items() if name != "manifest.json"}


def test_parts_on_another_disk_are_copied(tmp_path, monkeypatch):
    def no_link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_link)
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    join_parts(parts, tmp_path / "joined")
    assert Store(tmp_path / "joined").verify() == []
    assert len(Store(tmp_path / "joined")) == 18
