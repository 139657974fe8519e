from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_helpers import PROVENANCE, files, smear, write

from cellfeat.core.lock import FolderLock
from cellfeat.errors import Damaged, DifferentInputs
from cellfeat.store import Store
from cellfeat.store.join import join_parts


def join(parts, output):
    with FolderLock(output) as lock:
        join_parts(parts, output, lock)


def test_parts_in_order_are_the_whole(tmp_path):
    whole = Store(write(tmp_path / "whole", smear(14)))
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    for _ in range(2):  # what an interrupted join left is in nobody's way
        join(parts, tmp_path / "joined")
    joined = Store(tmp_path / "joined")
    pd.testing.assert_frame_equal(joined.table(), whole.table())
    pd.testing.assert_frame_equal(joined.images(), whole.images())
    np.testing.assert_array_equal(joined.read("features", slice(None)), whole.read("features", slice(None)))
    assert joined.verify() == []


def test_parts_of_other_inputs_are_not_mixed(tmp_path):
    parts = [write(tmp_path / "a", smear(4)), write(tmp_path / "b", smear(4), {**PROVENANCE, "weights": "b" * 64})]
    with pytest.raises(DifferentInputs, match=r"b: was made with provenance.weights = 'bbb.*a with 'aaa"):
        join(parts, tmp_path / "joined")
    assert not (tmp_path / "joined" / "manifest.json").exists()


def test_another_store_is_not_overwritten(tmp_path):
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    other = write(tmp_path / "other", smear(6), shard_cells=2)
    before = files(other)
    with pytest.raises(DifferentInputs, match="other: was made with shards"):
        join(parts, other)
    (other / "manifest.json").unlink()
    with pytest.raises(DifferentInputs, match=r"part-00000\.h5: is of another store, which has no manifest\.json"):
        join(parts, other)
    assert files(other) == {name: content for name, content in before.items() if name != "manifest.json"}
    assert all(Store(part).verify() == [] for part in parts)


@pytest.fixture
def other_disk(monkeypatch):
    """Every folder is a file system of its own, without links."""

    def no_rename(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", no_rename)
    monkeypatch.delattr("os.link")


@pytest.mark.usefixtures("other_disk")
def test_parts_on_another_disk_are_copied(tmp_path):
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    join(parts, tmp_path / "joined")
    assert Store(tmp_path / "joined").verify() == []
    assert len(Store(tmp_path / "joined")) == 18


@pytest.mark.usefixtures("other_disk")
def test_a_part_that_is_not_whole_is_said(tmp_path):
    parts = [write(tmp_path / "a", smear(14)[:8]), write(tmp_path / "b", smear(14)[8:])]
    shard = parts[1] / "shards/part-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        Damaged, match=r"b/shards/part-00000\.h5: is not what was written; remove .*b and dump it again"
    ):
        join(parts, tmp_path / "joined")
    shard.unlink()
    with pytest.raises(Damaged, match=r"b/shards/part-00000\.h5: is missing; remove .*b and dump it again"):
        join(parts, tmp_path / "joined")
    assert not (tmp_path / "joined/manifest.json").exists()
