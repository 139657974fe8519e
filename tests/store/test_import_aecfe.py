"""Files of the AE-CFE reference implementation become a store; harmful ones are refused before they act."""

import gzip
import os
import pickle

import numpy as np
import pytest

from cellfeat.errors import CellfeatError
from cellfeat.store.import_aecfe import import_aecfe


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def dumped(path, content):
    with gzip.open(path, "wb", 1) as file:
        pickle.dump(content, file, 4)
    return path


@pytest.fixture
def reference(tmp_path):
    """Feature and image files as the reference implementation writes them."""
    rng = np.random.default_rng(0)

    def entry(label, count):
        mask = np.zeros((400, 400, count), bool)
        mask[100:200, 40:80] = True
        rois = np.array([[100, 40, 200, 80]] * count)
        return {
            "label": label,
            "feats": rng.normal(size=(count, 14, 14, 256)).astype(np.float32),
            "rois": rois,
            "masks": mask,
        }

    features = {
        "a.tiff": entry("MON", 1),
        "b.tiff": entry("BAS", 2),
        "c.tiff": entry("PMB", 1),
        "d.tiff": entry("EOS", 1),
    }
    images = {name: rng.integers(0, 255, (200, 800, 3), dtype=np.uint8) for name in ("a.tiff", "b.tiff", "c.tiff")}
    return features, dumped(tmp_path / "Matek-19.dat.gz", features), dumped(tmp_path / "images.dat.gz", images)


def test_an_unknown_code_is_said_and_its_cells_have_no_label(tmp_path, reference, caplog):
    content, _, images = reference
    content["a.tiff"]["label"] = "WAT"
    store = import_aecfe(dumped(tmp_path / "f.dat.gz", content), [images], tmp_path / "store", "matek-19")
    assert store.table()["label"].tolist() == ["", "", ""]
    assert "codes WAT are not in vocabulary matek-19" in caplog.text


def test_the_reference_files_become_a_store(tmp_path, reference):
    content, features, images = reference
    store = import_aecfe(features, [images], tmp_path / "store", "matek-19")
    assert store.verify() == []
    table = store.table()
    assert table["cell_id"].tolist() == ["matek-19/a.tiff#0", "matek-19/b.tiff#0", "matek-19/b.tiff#1"]
    assert table["label"].tolist() == ["monocyte", "", ""]
    assert table[["x0", "y0", "x1", "y1"]].iloc[0].tolist() == [80, 50, 160, 100]
    wanted = content["a.tiff"]["feats"][0].transpose(2, 0, 1).astype(np.float16)
    np.testing.assert_array_equal(store.read("features", [0])[0], wanted)
    assert store.read("masks", [0]).mean() > 0.3


def test_harmful_and_foreign_files_are_refused(tmp_path, monkeypatch, reference):
    monkeypatch.chdir(tmp_path)
    _, features, images = reference
    for content, words in (
        ({"a": Harm()}, "names posix.system"),
        ([1], "holds no dict"),
        ({"z.tiff": {}}, "none of its images"),
        ({"a.tiff": {"label": "MON"}}, "'a.tiff' has no 'feats'"),
    ):
        with pytest.raises(CellfeatError, match=words):
            import_aecfe(dumped(tmp_path / "bad.dat.gz", content), [images], tmp_path / "bad", "matek-19")
    (tmp_path / "cut.dat.gz").write_bytes(features.read_bytes()[:5000])
    with pytest.raises(CellfeatError, match=r"cut\.dat\.gz: not a file of arrays, or damaged"):
        import_aecfe(tmp_path / "cut.dat.gz", [images], tmp_path / "bad", "matek-19")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("label", None, "the label of 'a.tiff' is no text"),
        ("feats", np.ones((1, 14, 14, 255)), r"no feats of shape \(k, 14, 14, 256\)"),
        ("feats", [[1], [1, 2]], "no feats of shape"),
        ("rois", np.array([["a", "b", "c", "d"]]), r"no rois of shape \(k, 4\)"),
        ("rois", np.array([[0, 0, np.nan, 9]]), r"no \(y0, x0, y1, x1\) within 0 to 400 px"),
        ("rois", np.array([[0, 0, 1e300, 9]]), "within 0 to 400 px"),
        ("rois", np.array([[20, 20, 10, 10]]), "within 0 to 400 px"),
        ("masks", np.zeros((0, 0, 1), bool), r"no array \(400, 400, 1\)"),
        ("masks", np.full((400, 400, 1), "x"), r"no array \(400, 400, 1\)"),
    ],
)
def test_values_that_make_no_cell_are_refused(tmp_path, reference, name, value, words):
    content, _, images = reference
    features = dumped(tmp_path / "changed.dat.gz", {"a.tiff": {**content["a.tiff"], name: value}})
    with pytest.raises(CellfeatError, match=words):
        import_aecfe(features, [images], tmp_path / "bad", "matek-19")


def test_pictures_without_pixels_are_refused(tmp_path, reference):
    _, features, _ = reference
    images = dumped(tmp_path / "empty.dat.gz", {"a.tiff": np.zeros((0, 5, 3), np.uint8)})
    with pytest.raises(CellfeatError, match=r"image 'a.tiff' is no \(h, w, 3\) uint8 array"):
        import_aecfe(features, [images], tmp_path / "bad", "matek-19")
