import json

import h5py
import numpy as np
import pytest
from store_helpers import SIDE

from cellfeat.files import sha256_file
from cellfeat.store import Store

SHARD = "shards/part-00000.h5"


def change(path, edit, sign=True):
    """Edit the first shard; `sign` also puts the new digest into the manifest."""
    with h5py.File(path / SHARD, "r+") as handle:
        edit(handle)
    if sign:
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["shards"][0]["sha256"] = sha256_file(path / SHARD)
        (path / "manifest.json").write_text(json.dumps(manifest))


def assign(name, row, value):
    def edit(handle):
        handle[name][row] = value

    return edit


def test_sound_store(path):
    assert Store(path).verify(progress=True) == []


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (assign("features", 1, np.nan), "a feature that is not finite"),
        (assign("masks", 1, 255), "a mask that is not 0/1"),
        (assign("boxes", 1, [0, 0, 500, 9]), "a box outside its image"),
        (assign("boxes", 1, [9, 9, 0, 10]), "a box outside its image"),
        (assign("scores", 1, np.inf), "a score that is not finite"),
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
    with h5py.File(path / "shards/part-00001.h5") as handle:
        image, cell = handle["images/image_id"].asstr()[0], handle["cell_id"].asstr()[0]

    def edit(handle):
        handle["images/image_id"][0] = image
        handle["cell_id"][0] = cell

    change(path, edit)
    found = Store(path).verify()
    assert f"cell_id {cell!r} occurs 2 times" in found
    assert f"image_id {image!r} occurs 2 times" in found


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
    found = Store(path).verify()
    assert len(found) == 2
    assert "cannot be read" in found[1]
