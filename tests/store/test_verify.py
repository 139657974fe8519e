import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from store_helpers import SHARD, SIDE, change, smear, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.repair import repair


def assign(name, row, value):
    def edit(handle):
        handle[name][row] = value

    return edit


def test_sound_store(path):
    assert Store(path).verify(progress=True) == []


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (assign("features", 1, np.nan), "features that are not finite"),
        (assign("masks", 1, 255), "masks outside 0 to 1"),
        (assign("boxes", 1, [0, 0, 500, 9]), "a box outside its image"),
        (assign("boxes", 1, [9, 9, 0, 10]), "a box outside its image"),
        (assign("scores", 1, np.inf), "scores that are not finite"),
        (assign("cell_id", 1, "other#0"), "'other#0' is not named by its image and its rank"),
        (assign("image_id", 1, "other"), "of an image that the shard does not list"),
        (assign("images/cells", 1, 7), "states 7 cells, the shard has"),
        (lambda handle: handle["crops"].resize(2, axis=0), rf"crops is \(2, {SIDE}, {SIDE}, 3\) uint8, should be"),
    ],
)
def test_broken_rules_are_found(path, edit, problem):
    change(path, edit)
    found = Store(path).verify()
    assert any(problem.replace("\\", "") in line for line in found), found
    assert all(line.startswith(SHARD) or line.startswith("cell_id") for line in found)


def test_repeated_ids_are_found(path):
    shutil.copy(path / SHARD, path / "shards/part-00055.h5")
    manifest = read_manifest(path)
    manifest["shards"].append({**manifest["shards"][0], "file": "shards/part-00055.h5"})
    write_manifest(path, manifest)
    found = Store(path).verify()
    assert "cell_id 'south/001.jpg#0': occurs 2 times" in found
    assert "images/image_id 'north/000.jpg': occurs 2 times" in found


def test_constant_feature_is_found_and_is_no_damage(path):
    change(path, assign("features", 1, 3))
    assert Store(path).verify() == ["shards/part-00000.h5: cell 'north/002.jpg#0' has a constant feature"]
    assert repair(path).dropped == {}


def test_changed_missing_and_unlisted_shards_are_found(path):
    change(path, assign("crops", 0, 0), sign=False)
    (path / "shards/part-00001.h5").unlink()
    (path / "shards/part-00077.h5").touch()
    found = Store(path).verify()
    assert len(found) == 3, found
    assert found[0] == "shards/part-00077.h5: not listed in the manifest"
    assert found[1].startswith("shards/part-00000.h5: its sha256 is not the manifest's")
    assert "part-00001.h5: listed in manifest.json but missing" in found[2]


def test_damaged_chunk_is_found(path):
    with h5py.File(path / SHARD) as handle:
        offset = handle["crops"].id.get_chunk_info(1).byte_offset
    with open(path / SHARD, "r+b") as handle:
        handle.seek(offset + 20)
        handle.write(b"\0\0\0\0")
    assert "its sha256 is not the manifest's" in Store(path).verify()[0]
    change(path, lambda handle: None)
    assert "cannot read crops" in Store(path).verify()[0]


def test_repair_sets_aside_what_is_damaged_and_the_next_run_computes_it_again(path):
    whole = Store(path).table()
    (path / SHARD).write_bytes((path / SHARD).read_bytes()[:-9])
    done = repair(path)
    assert list(done.dropped) == [SHARD]
    assert (done.images, done.cells) == (4, 6)
    assert Store(path).verify() == []
    assert (path / "dropped/part-00000.h5").is_file()
    write(path, smear())
    assert Store(path).verify() == []
    pd.testing.assert_frame_equal(*(t.sort_values("cell_id", ignore_index=True) for t in (whole, Store(path).table())))
    assert list(repair(path).lines()) == ["nothing to repair"]


@pytest.mark.parametrize("damage", ["lost", "cut", "changed", "not sealed"])
def test_repair_rebuilds_the_manifest_from_the_shards(path, damage):
    file = path / "manifest.json"
    before = Store(path)
    if damage == "lost":
        file.unlink()
    elif damage == "cut":
        file.write_text(file.read_text()[:-70])
    else:
        old = '"sha256"' if damage == "not sealed" else '"north"'
        file.write_text(file.read_text().replace(old, '"other"', 1))
        assert Store(path).verify()
    assert repair(path).rebuilt
    assert Store(path).manifest == before.manifest
    assert Store(path).verify() == []


def test_repair_drops_a_shard_that_repeats_images(path):
    shutil.copy(path / SHARD, path / "shards/part-00055.h5")
    (path / "manifest.json").unlink()
    assert list(repair(path).dropped) == ["shards/part-00055.h5"]
    assert Store(path).verify() == []


def test_what_is_no_store_is_not_repaired(tmp_path):
    with pytest.raises(CellfeatError, match="not a feature store"):
        repair(tmp_path)
    (tmp_path / "shards").mkdir()
    with pytest.raises(CellfeatError, match="no sound shard"):
        repair(tmp_path)


def test_a_writer_at_work_is_no_damage(path, monkeypatch):
    """A shard that is in place and about to be listed, and files that are being written."""
    manifest = read_manifest(path)
    write_manifest(path, {**manifest, "shards": manifest["shards"][:-1]})
    store = Store(path)
    (path / "shards/.part-00009.h5.77.partial").write_text("being written")
    (path / ".lock").write_text("{}")
    monkeypatch.setattr("cellfeat.store.verify.time.sleep", lambda seconds: write_manifest(path, manifest))
    assert store.verify() == []


def test_what_a_killed_writer_left_is_found_in_the_end(path, monkeypatch):
    monkeypatch.setattr("cellfeat.store.verify.LISTING", 0.05)
    (path / "shards/part-00077.h5").touch()
    (path / ".lock").write_text("{}")
    assert Store(path).verify() == ["shards/part-00077.h5: not listed in the manifest"]


def test_labels_that_are_no_utf8_are_found(path):
    change(path, assign("label", 1, b"\xff"))
    assert "part-00000.h5: damaged" in Store(path).verify()[0]
