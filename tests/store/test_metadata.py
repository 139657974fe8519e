"""Metadata of images: patient, slide, stain, whatever a dataset names; they travel wherever the cells go."""

from __future__ import annotations

import h5py
import pandas as pd
import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, image, smear, write

from cellfeat.errors import CellfeatError, Damaged
from cellfeat.store import Store, StoreWriter, probe
from cellfeat.store.copying import merge, subset
from cellfeat.store.diff import diff
from cellfeat.store.export import export
from cellfeat.store.inspect import describe

PATIENTS = ["Müller #1", "p2", ""]


def with_patients():
    images = smear()
    for number, result in enumerate(images):
        result.metadata = {"group": PATIENTS[number % 3], "slide": f"s{number // 4}"}
    return images


@pytest.fixture
def patients(tmp_path):
    return write(tmp_path / "patients", with_patients())


def test_cells_have_the_metadata_of_their_image(patients):
    store = Store(patients)
    assert store.verify() == []
    assert store.metadata == ["group", "slide"]  # in the order given
    wanted = {result.image_id: dict(result.metadata) for result in with_patients()}
    for frame in (store.table(), store.images()):
        assert list(frame)[-2:] == ["group", "slide"]
        assert len(frame) >= 14
        found = frame.set_index("image_id")[["group", "slide"]]
        assert all(dict(row) == wanted[name] for name, row in found.iterrows())


def test_images_without_a_column_have_an_empty_text(tmp_path):
    images = smear()
    images[1].metadata, images[9].metadata = {"stain": "Wright"}, {"group": "p1"}
    store = Store(write(tmp_path / "store", images))
    assert store.metadata == ["stain", "group"]
    assert store.images()["group"].tolist() == ["p1" if k == 9 else "" for k in range(14)]
    assert store.table().query("stain == 'Wright'")["image_id"].tolist() == ["south/001.jpg"]
    assert Store(write(tmp_path / "none", smear())).metadata == []


def test_subset_merge_and_diff_keep_them(patients, tmp_path):
    store = Store(patients)
    parts = [subset(store, tmp_path / name, domain=name) for name in ("north", "south")]
    rows = store.select(domain="north")
    pd.testing.assert_frame_equal(parts[0].table(), store.table().iloc[rows].reset_index(drop=True))
    merged = merge(parts, tmp_path / "merged")
    assert list(diff(store, merged).lines()) == ["no difference"]
    for tolerance in (-1, float("nan")):
        with pytest.raises(CellfeatError, match="is no number from 0 on"):
            diff(store, merged, tolerance)
    bare = Store(write(tmp_path / "bare", [image(50)]))
    both = merge([merged, bare], tmp_path / "both")
    assert both.verify() == []
    assert both.table()["group"].iloc[-1] == ""
    changed = with_patients()
    changed[3].metadata = {"group": "p2", "slide": "s0"}
    assert diff(store, Store(write(tmp_path / "changed", changed))).images == ["south/003.jpg"]
    without = diff(store, Store(write(tmp_path / "without", smear())))
    assert len(without.images) == 14
    assert not without.changed


def test_exports_and_inspect_show_them(tmp_path):
    images = smear()
    for result in images:
        result.metadata = {"group": "p1", "batch": "b7"}  # exports call the domain so
    store = Store(write(tmp_path / "store", images))
    exported = pd.read_csv(export(store, tmp_path / "table.csv"))
    assert set(exported["group"]) == {"p1"}
    assert set(exported["batch"]) == {"north", "south"}
    assert set(exported["metadata_batch"]) == {"b7"}
    assert "images/metadata/group" in describe(store)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"label": "x"}, "'label': a store has a column of this name already"),
        ({"width": "x"}, "'width': a store has"),
        ({"x0": "x"}, "'x0': a store has"),
        ({"a/b": "x"}, "'a/b': no name that a column can have"),
        ({"": "x"}, "no name that a column can have"),
        ({"a\0": "x"}, "no name that a column can have"),
        ({"group": 3}, "image 'north/000.jpg': its group: 3 is no text"),
        ({"group": "\udcff"}, "its group: .* is no text"),
    ],
)
def test_what_a_store_cannot_hold_is_refused(tmp_path, metadata, words):
    with StoreWriter(tmp_path / "store", SHAPE, SIDE, PROVENANCE) as writer:
        with pytest.raises(CellfeatError, match=words) as error:
            writer.add(image(0, metadata=metadata))
        assert "\n" not in str(error.value)
        writer.add(image(0))
    assert Store(tmp_path / "store").verify() == []


def test_a_resumed_store_may_get_them(tmp_path):
    path = write(tmp_path / "store", smear()[:6])
    write(path, with_patients())
    assert Store(path).verify() == []
    assert Store(path).images()["group"].tolist()[:6] == [""] * 6
    assert Store(path).images()["slide"].iloc[8] == "s2"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda shard: shard["images"].__delitem__("metadata") or shard["images"].create_dataset("metadata", data=1),
            "no group",
        ),
        (lambda shard: shard["images/metadata"].create_dataset("label", (4,), h5py.string_dtype()), "'label'"),
        (
            lambda shard: shard["images/metadata"].create_dataset("stain", (9,), h5py.string_dtype()),
            "should be .4,. utf-8",
        ),
        (lambda shard: shard["images/metadata"].create_dataset("stain", data=[1, 2, 3, 4]), "int64, should be"),
        (lambda shard: shard["images/metadata"].__setitem__("stain", h5py.SoftLink("/label")), "is a SoftLink"),
        (lambda shard: [shard["images/metadata"].create_dataset(f"c{k}", data=1) for k in range(70)], "up to 64"),
    ],
)
def test_forged_metadata_are_refused(patients, edit, words):
    with h5py.File(patients / "shards/part-00000.h5", "r+") as shard:
        edit(shard)
    probe._found.clear()
    with pytest.raises(CellfeatError, match=words):
        Store(patients).table()


def test_a_cell_of_no_image_is_damage(patients):
    with h5py.File(patients / "shards/part-00000.h5", "r+") as shard:
        shard["image_id"][0] = "elsewhere"
    with pytest.raises(Damaged, match="does not list the image of each cell once"):
        Store(patients).table()
