"""The index says what the shards say, in every process, and is not used where it does not fit."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
from store_helpers import smear, write

from cellfeat.errors import CellfeatError, Damaged
from cellfeat.store import Store, probe
from cellfeat.store.copying import merge, subset
from cellfeat.store.index import INDEX, read_index
from cellfeat.store.indexing import all_columns
from cellfeat.store.repair import repair
from cellfeat.store.shards import Shards


def patients():
    images = smear()
    for k, result in enumerate(images):
        result.metadata = {"group": f"p{k % 3}"} if k < 9 else {"slide": "ü"}
    return images


@pytest.fixture
def plain(tmp_path):
    """A store without an index."""
    return write(tmp_path / "plain", patients())


@pytest.fixture
def indexed(tmp_path, monkeypatch):
    """The same store with one, which this process has not seen."""
    monkeypatch.setattr("cellfeat.store.indexing.INDEXED", 2)
    path = write(tmp_path / "indexed", patients())
    assert (path / INDEX).is_file()
    probe._found.clear()
    return path


@pytest.fixture
def unopened(monkeypatch):
    """No shard may be opened by HDF5."""

    def refused(*_):
        raise AssertionError("a shard was opened")

    monkeypatch.setattr("cellfeat.store.shards.open_shard", refused)
    monkeypatch.setattr("cellfeat.store.probe._ask_child", refused)


def test_what_is_read_by_the_index_is_what_the_shards_hold(plain, indexed, unopened, monkeypatch):
    by_index = Store(indexed)
    rows = np.array([17, 0, 5, 5, 11])
    read = {name: by_index.read(name, rows) for name in ("features", "crops", "masks", "boxes", "scores")}
    again = pickle.loads(pickle.dumps(by_index)).read("masks", rows)  # as a DataLoader's worker does
    table, images = by_index.table(), by_index.images()
    monkeypatch.undo()
    store = Store(plain)
    pd.testing.assert_frame_equal(table, store.table())
    pd.testing.assert_frame_equal(images, store.images())
    assert {"group", "slide"} <= set(table)
    for name, values in read.items():
        np.testing.assert_array_equal(values, store.read(name, rows))
    np.testing.assert_array_equal(again, read["masks"])


def test_cells_are_copied_unopened(plain, indexed, unopened, tmp_path, monkeypatch):
    subset(Store(indexed), tmp_path / "part", label="blast")
    merge([Store(indexed)], tmp_path / "whole")
    monkeypatch.undo()
    part, whole = Store(tmp_path / "part"), Store(tmp_path / "whole")
    pd.testing.assert_frame_equal(whole.table(), Store(plain).table())
    assert part.table()["label"].tolist() == ["blast"] * len(Store(plain).select(label="blast"))
    assert part.verify() == whole.verify() == []


def test_a_reader_makes_it_and_a_resumed_store_extends_it(tmp_path, monkeypatch):
    path = write(tmp_path / "store", patients()[:9])
    monkeypatch.setattr("cellfeat.store.indexing.INDEXED", 2)
    assert not (path / INDEX).exists()
    Store(path).table()
    first = read_index(path, Store(path).manifest["shards"])
    assert first is not None
    opened = []
    opens = Shards.open
    monkeypatch.setattr(Shards, "open", lambda self, number: opened.append(number) or opens(self, number))
    write(path, patients())
    manifest = Store(path).manifest
    assert not opened  # the writer knows the others
    index = read_index(path, manifest["shards"])
    assert index is not None
    assert index.digests.tolist()[: len(first.digests)] == first.digests.tolist()
    assert len(index.digests) > len(first.digests)
    assert Store(path).verify() == []


CONTENTS = [b"", b"PK", b"not an index", "another", "compressed", "object"]
ELEMENTS = ("cells.scores", "cells.label.codes", "chunks.masks", "filters.crops", "counts")
FORMS = [(name, wrong) for name in ELEMENTS for wrong in ("short", "texts", "absent")]


def test_an_index_that_is_none_or_of_another_form_is_not_used(plain, indexed):
    table = Store(plain).table()
    with np.load(indexed / INDEX) as file:
        members = dict(file)
    for case in [*CONTENTS, *FORMS]:
        spoil(indexed / INDEX, members, case)
        assert Store(indexed).shards.index is None, case
        pd.testing.assert_frame_equal(Store(indexed).table(), table)
        assert Store(indexed).shards.index is not None, case  # made again


def spoil(path, members, case):
    """Write an index that is none, or of another store or form."""
    members = dict(members)
    if isinstance(case, bytes):
        path.write_bytes(case)
        return
    if case == "object":
        members = {"version": np.array(1), "digests": np.array([{}], object)}
    elif case == "another":
        members["digests"] = np.array(["0" * 64, *members["digests"][1:]])
    elif isinstance(case, tuple):
        name, wrong = case
        values = members.pop(name)
        if wrong != "absent":
            members[name] = values[:-1] if wrong == "short" else np.full(values.shape, "x")
    with open(path, "wb") as file:
        (np.savez_compressed if case == "compressed" else np.savez)(file, **members)


@pytest.mark.parametrize(("field", "value"), [("address", -1), ("address", 1 << 40), ("size", 5), ("size", -5)])
def test_chunks_where_there_are_none_are_damage(indexed, field, value):
    with np.load(indexed / INDEX) as file:
        members = dict(file)
    members["chunks.masks"][field][3] = value
    with open(indexed / INDEX, "wb") as file:
        np.savez(file, **members)
    with pytest.raises(Damaged, match=r"part-0000\d\.h5: cannot read masks"):
        Store(indexed).read("masks", [3])


def test_a_missing_shard_is_missed(indexed):
    (indexed / "shards/part-00001.h5").unlink()
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: listed in manifest\.json but missing"):
        Store(indexed).table()


@pytest.mark.parametrize("kind", ["plain", "indexed"])
def test_a_shard_that_is_overwritten_after_its_table_was_read_is_not_read(kind, request):
    """The other shard has the same size, cells at the same bytes and sound checksums: nothing else tells them apart."""
    folder = request.getfixturevalue(kind)
    store = Store(folder)
    store.table()
    store.read("crops", [0])  # where its chunks lie is known from now on
    later = pickle.loads(pickle.dumps(store))
    first, second = (folder / f"shards/part-0000{k}.h5" for k in (0, 1))
    with h5py.File(first, locking=False) as one:
        crops = one["crops"][:]
    content = bytearray(first.read_bytes())
    at = content.index(crops[0].tobytes())
    content[at : at + 4], content[at + 4 : at + 8] = content[at + 4 : at + 8], content[at : at + 4]
    first.write_bytes(content)
    for opened in (store, later):
        for name in ("crops", "masks"):
            with pytest.raises(Damaged, match=r"part-00000\.h5: was changed after the store was opened; open it again"):
                opened.read(name, [0])
    second.unlink()
    with pytest.raises(Damaged, match=r"part-00001\.h5: listed in manifest\.json but missing"):
        store.read("crops", [6])


def test_verify_compares_it_and_repair_removes_it(indexed):
    with np.load(indexed / INDEX) as file:
        members = dict(file)
    members["cells.scores"][3] = 0.123
    with open(indexed / INDEX, "wb") as file:
        np.savez(file, **members)
    [problem] = Store(indexed).verify()
    assert problem.startswith(".index.npz: is not what shards/part-0000")
    repair(indexed)
    assert Store(indexed).verify() == []


def test_a_shard_that_leads_out_of_the_store_is_refused(indexed, tmp_path):
    shard = indexed / "shards/part-00000.h5"
    shard.rename(tmp_path / "elsewhere.h5")
    shard.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(CellfeatError, match="leads out of the store"):
        Store(indexed).read("features", [0])


def test_a_link_in_its_place_is_not_followed(indexed, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (indexed / INDEX).unlink()
    (indexed / INDEX).symlink_to(tmp_path / "mine.txt")
    Store(indexed).table()
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert all_columns(Store(indexed).shards).digests.size == len(Store(indexed).shards)


def test_small_stores_have_none(path):
    Store(path).table()
    assert not (path / INDEX).exists()
