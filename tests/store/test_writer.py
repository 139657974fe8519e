import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, cell, files, image, smear, write

import cellfeat
from cellfeat.errors import CellfeatError, Damaged
from cellfeat.store import Store, StoreWriter
from cellfeat.store.chunks import pack

HERE = Path(__file__).parent

# Writes the smear into argv[1] and is killed at the argv[3]-th call of the step argv[2].
KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from cellfeat.core import files
from cellfeat.store import writer
from store_helpers import smear, write

path, step, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def deadly(owner, name, after):
    whole = getattr(owner, name)
    def call(*args, **options):
        global left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = whole(*args, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, call)

owner, name, when = {{
    "append": (writer.ShardBuilder, "append", "after"), "finish": (writer.ShardBuilder, "finish", "after"),
    "written": (files.os, "fsync", "before"), "rename": (files.os, "replace", "before"),
    "renamed": (files.os, "replace", "after"),
    "manifest": (writer, "write_manifest", "before"), "listed": (writer, "write_manifest", "after"),
}}[step]
deadly(owner, name, when == "after")
write(path, smear())
"""


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("append", 9),
        ("finish", 2),
        ("written", 2),
        ("rename", 1),  # of the first manifest
        ("rename", 5),
        ("renamed", 4),
        ("manifest", 3),
        ("listed", 3),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, step, call):
    whole = write(tmp_path / "whole", smear())
    path = tmp_path / "killed"
    code = KILLED.format(here=str(HERE))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(cellfeat.__file__).parents[1]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code, path, step, str(call)], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    if (path / "manifest.json").exists():
        Store(path).read("features", slice(None))  # what is listed is whole at any instant

    write(path, smear())

    assert files(path) == files(whole)
    assert Store(path).digest == Store(whole).digest
    assert Store(path).verify() == []


@pytest.mark.parametrize("step", ["atomic_path", "sync_folder", "write_manifest"])
def test_failure_between_steps_stores_nothing_half(tmp_path, monkeypatch, step):
    whole = write(tmp_path / "whole", smear())
    path = write(tmp_path / "store", smear()[:4])
    listed = len(Store(path).manifest["shards"])

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(f"cellfeat.store.writer.{step}", fail)
        with pytest.raises(CellfeatError, match=r"cannot write .*No space left.*make room"):
            write(path, smear())
    assert len(Store(path).manifest["shards"]) == listed
    assert Store(path).verify() == []  # and no file that nobody lists

    write(path, smear())
    assert Store(path).verify() == []
    assert Store(path).table().equals(Store(whole).table())


def test_full_disk(tmp_path):
    path = tmp_path / "store"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write(path, [image(0, shape=(64, 14, 14))], {}, (64, 14, 14))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(CellfeatError, match=r"cannot write .*make room"):
            write(path, [image(k, shape=(64, 14, 14)) for k in range(20)], {}, (64, 14, 14), shard_cells=50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write(path, [image(k, shape=(64, 14, 14)) for k in range(20)], {}, (64, 14, 14))
    assert len(Store(path)) == 20
    assert Store(path).verify() == []


def test_interrupted_run_keeps_the_images_added(tmp_path):
    path = tmp_path / "store"

    def images():
        yield image(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, images())
    assert Store(path).images()["image_id"].tolist() == [image(0).image_id]


def test_image_broken_off_halfway_leaves_no_trace(tmp_path, monkeypatch):
    writer = StoreWriter(tmp_path / "store", SHAPE, SIDE, PROVENANCE)
    writer.add(image(0, cells=2))

    def interrupted(values, gzip_level):
        if values.shape == (SIDE, SIDE, 3):
            raise KeyboardInterrupt
        return pack(values, gzip_level)

    with monkeypatch.context() as broken:
        broken.setattr("cellfeat.store.shard.pack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.add(image(1, cells=3))
    writer.add(image(2, cells=1))
    writer.close()
    store = Store(tmp_path / "store")
    assert store.verify() == []
    assert store.table()["image_id"].tolist() == [image(0).image_id] * 2 + [image(2).image_id]


def test_shards_are_bounded_by_cells_and_by_images(tmp_path):
    store = Store(write(tmp_path / "store", [image(k, cells=2) for k in range(4)], shard_cells=3))
    assert [(s["cells"], s["images"]) for s in store.manifest["shards"]] == [(4, 2), (4, 2)]
    store = Store(write(tmp_path / "empty", [image(k, cells=0) for k in range(7)], shard_images=3))
    assert [(s["cells"], s["images"]) for s in store.manifest["shards"]] == [(0, 3), (0, 3), (0, 1)]
    assert store.verify() == []


def test_done_and_repeated_image(path):
    writer = StoreWriter(path, SHAPE, SIDE, PROVENANCE)
    assert writer.done == {result.image_id for result in smear()}
    with pytest.raises(CellfeatError, match="already"):
        writer.add(image(1))
    writer.close()
    writer.close()
    with pytest.raises(CellfeatError, match="closed"):
        writer.add(image(99))


def test_resume_removes_only_its_own_leftovers(path):
    before = files(path)
    for name in (".part-00009.h5.77.partial", "part-00007.h5", "notes.txt"):
        (path / "shards" / name).write_text("left")
    (path / ".manifest.json.123.partial").write_text("left")
    assert any("part-00007.h5: not listed" in problem for problem in Store(path).verify())
    write(path, smear())
    assert files(path).keys() == before.keys() | {"shards/notes.txt"}


def test_second_writer_is_refused(path):
    first = StoreWriter(path, SHAPE, SIDE, PROVENANCE)
    with pytest.raises(CellfeatError, match="another process is writing"):
        StoreWriter(path, SHAPE, SIDE, PROVENANCE)
    first.close()
    StoreWriter(path, SHAPE, SIDE, PROVENANCE).close()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"weights": "b" * 64}, "weights = 'aa.*, now it is 'bb"),
        ({"datasets": ["north"]}, r"datasets = \['north', 'south'\], now it is \['north'\]"),
        ({"config": {"MODEL": {"MASK_ON": False}}}, r"config\.MODEL\.MASK_ON = True, now it is False"),
        ({"seed": 1}, "seed = None, now it is 1"),
    ],
)
def test_other_provenance_is_refused(path, change, key):
    before = files(path)
    with pytest.raises(CellfeatError, match=key + ".*choose another output folder") as error:
        write(path, smear(), {**PROVENANCE, **change})
    assert len(str(error.value)) < len(str(path)) + 250
    assert files(path) == before


def test_long_values_are_shortened_to_where_they_differ(tmp_path):
    text = "\n".join(f"KEY_{k}: {k}" for k in range(200))
    path = write(tmp_path / "store", [image(1)], {"config": text})
    with pytest.raises(CellfeatError) as error:
        write(path, [], {"config": text.replace("KEY_150: 150", "KEY_150: 7")})
    message = str(error.value)
    assert "KEY_150: 150" in message and "KEY_150: 7" in message  # noqa: PT018
    assert "\n" not in message


def test_tuples_in_the_provenance_are_lists(tmp_path):
    path = write(tmp_path / "store", smear(), {"size": (1, 2)})
    write(path, smear(), {"size": (1, 2)})
    assert Store(path).provenance == {"size": [1, 2]}


@pytest.mark.parametrize("options", [{"shape": (4, 7, 7)}, {"feature_dtype": "float32"}])
def test_other_layout_is_refused(path, options):
    with pytest.raises(CellfeatError, match="was made with feature_"):
        write(path, [], **options)


@pytest.mark.parametrize("options", [{"shape": (4, 7)}, {"feature_dtype": "int8"}])
def test_impossible_layout_is_refused(tmp_path, options):
    with pytest.raises(CellfeatError, match="feature_"):
        write(tmp_path / "store", [], **options)


def test_other_folders_are_refused(tmp_path, path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    with pytest.raises(CellfeatError, match="not empty and not a feature store"):
        write(tmp_path / "notes", [])
    (tmp_path / "file").touch()
    with pytest.raises(CellfeatError, match="cannot write here"):
        write(tmp_path / "file", [])
    (path / "manifest.json").unlink()
    shards = list((path / "shards").iterdir())
    with pytest.raises(CellfeatError, match=r"shards but no manifest\.json"):
        write(path, [])
    assert list((path / "shards").iterdir()) == shards  # a lost manifest must not cost the cells


def test_newer_store_is_not_written_to(path):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "version": "2.0"}))
    with pytest.raises(CellfeatError, match="update cellfeat"):
        write(path, [])


def test_lost_shard_is_computed_again_when_its_entry_is_taken_out(path, tmp_path):
    manifest = json.loads((path / "manifest.json").read_text())
    lost = manifest["shards"].pop(1)
    (path / lost["file"]).write_bytes(b"damaged")
    (path / "manifest.json").write_text(json.dumps(manifest))
    rows = len(Store(path)) + lost["cells"]
    kept = (path / manifest["shards"][0]["file"]).rename(tmp_path / "kept.h5")
    with pytest.raises(Damaged, match=r"part-00000\.h5: listed in manifest\.json but missing"):
        write(path, smear())
    kept.rename(path / manifest["shards"][0]["file"])
    write(path, smear())
    assert len(Store(path)) == rows
    assert Store(path).verify() == []


def nan(shape=SHAPE, value=np.nan):
    feature = np.zeros(shape, np.float32)
    feature[0, 0, 0] = value
    return feature


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature": nan()}, "'north/000.jpg#0': its features are not finite"),
        ({"feature": nan(value=-7e4)}, r"'north/000.jpg#0': features of 70000 are beyond float16; dump as float32"),
        ({"feature": np.zeros((4, 1, 1))}, r"features of shape \(4, 1, 1\)"),
        ({"crop": np.zeros((8, 8, 3), np.uint8)}, "crops of shape"),
        ({"crop": np.zeros((SIDE, SIDE, 3))}, "give uint8"),
        ({"mask": np.full((SIDE, SIDE), 255, np.uint8)}, "masks hold 255; give 0 to 1"),
        ({"box": np.array([5, 5, 2, 9])}, "not XYXY within"),
        ({"box": np.array([5, 5, 92, 9])}, "not XYXY within"),
        ({"box": np.array([5, 5, np.nan, 9])}, "boxes are not finite"),
        ({"score": float("nan")}, "scores are not finite"),
        ({"label": "a\0b"}, "without NUL"),
    ],
)
def test_bad_cells_are_refused_by_name(tmp_path, changes, message):
    with StoreWriter(tmp_path / "store", SHAPE, SIDE, {}) as writer:
        with pytest.raises(CellfeatError, match=message):
            writer.add(replace(image(0), cells=[cell(0, **changes)]))
        writer.add(image(0))  # nothing of the refused one is left
    assert len(Store(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": ""}, "empty image_id"),
        ({"image_id": "\udcff.jpg"}, "no text that HDF5 holds"),
        ({"reason": "broken"}, "both cells and a reason"),
        ({"width": 0}, "0 x 60 px"),
    ],
)
def test_bad_images_are_refused(tmp_path, changes, message):
    with StoreWriter(tmp_path / "store", SHAPE, SIDE, {}) as writer, pytest.raises(CellfeatError, match=message):
        writer.add(image(0, **changes))


def test_float32_keeps_what_float16_cannot(tmp_path):
    large = image(0)
    large.cells[0].feature = nan(value=-7e4)
    store = Store(write(tmp_path / "store", [large], feature_dtype="float32"))
    assert store.read("features", [0]).dtype == np.float32
    assert store.read("features", [0]).min() == -7e4


def test_boolean_masks_and_box_head_vectors(tmp_path):
    shape = (1024, 1, 1)
    results = [image(k, shape=shape) for k in range(3)]
    results[0].cells[0].mask = results[0].cells[0].mask.astype(bool)
    store = Store(write(tmp_path / "store", results, shape=shape, gzip_level=0))
    assert store.feature_shape == shape
    for row, result in enumerate(results):
        np.testing.assert_array_equal(store.read("features", [row])[0], result.cells[0].feature.astype(np.float16))
        np.testing.assert_array_equal(store.read("masks", [row])[0], result.cells[0].mask)
