import pytest
from PIL import Image

from cellfeat.data.listing import find_images
from cellfeat.data.paths import dataset_name, open_paths
from cellfeat.errors import CellfeatError


@pytest.fixture
def smears(tmp_path, monkeypatch):
    """Folders `one` (2 images and a table) and `two` (class folders), below the working directory."""
    for name in ("one/a.png", "one/b.png", "two/BAS/a.png", "two/LYT/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(*paths):
    return [record.image_id for dataset in open_paths([str(path) for path in paths]) for record in dataset.records()]


def test_folders_files_and_globs(smears):
    assert ids("one", "two") == ["one/a.png", "one/b.png", "two/BAS/a.png", "two/LYT/a.png"]
    assert ids("one/b.png", "two") == ["two/BAS/a.png", "two/LYT/a.png", "one/b.png"]
    assert ids("two/**/a.png") == ["BAS/a.png", "LYT/a.png"]
    assert ids("o*") == ids(smears / "one") == ids("one/.") == ["one/a.png", "one/b.png"]
    [two] = open_paths(["two"])
    assert [(r.domain, r.label) for r in two.records()] == [("two", "basophil"), ("two", "lymphocyte")]


def test_what_its_dataset_yaml_says_counts(smears):
    (smears / "one" / "dataset.yaml").write_text("domain: clinic\num_per_px: 0.1\n")
    [one] = open_paths(["one"])
    assert (one.spec.domain, one.spec.um_per_px) == ("clinic", 0.1)


def test_a_folder_of_the_data_root_is_that_dataset(smears, monkeypatch):
    (smears / "two").rename(smears / "matek-19")
    monkeypatch.setenv("CELLFEAT_DATASETS", str(smears))
    [known] = open_paths(["matek-19"])
    assert known.spec.images == "original"


def test_classes_named_one_by_one_are_said(smears, caplog):
    open_paths(["two/BAS", "two/LYT"])
    assert "BAS, LYT look like classes" in caplog.text


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["three"], "three: no such file or folder; name a folder of images"),
        (["one/*.tif"], r"one/\*.tif: no such file or folder"),
        (["one", "copy/one"], "two datasets are named one: one and copy/one; rename one of the folders"),
        (["two", "two/BAS"], "two/BAS lies within .*two: its images would be counted twice"),
        (["one", "one/a.png"], "two datasets are named one"),
        (["notes.txt"], "notes.txt: no folder and no image that is read"),
        (["empty"], "empty: holds no image that is read"),
    ],
)
def test_refusals(smears, paths, message):
    (smears / "copy").mkdir()
    (smears / "empty").mkdir()
    (smears / "copy" / "one").symlink_to(smears / "one")
    (smears / "notes.txt").touch()
    with pytest.raises(CellfeatError, match=message):
        open_paths(paths)


def test_files_that_are_no_images_are_left_out_of_many(smears, caplog):
    (smears / "one" / "labels.csv").write_text("x")
    assert ids("one/*") == ["one/a.png", "one/b.png"]
    assert "left out: 1 files that are no images (first one/labels.csv)" in caplog.text


@pytest.mark.parametrize(("folder", "name"), [("a b", "a b"), ("-x@1:2 ", "x_1_2"), ("..x", "x"), ("(§)", "images")])
def test_names(tmp_path, folder, name):
    assert dataset_name(tmp_path / folder) == name


def test_a_feature_store_among_images_holds_no_images(smears):
    (smears / "one" / "store" / "shards").mkdir(parents=True)
    (smears / "one" / "store" / "manifest.json").touch()
    Image.new("RGB", (8, 8)).save(smears / "one" / "store" / "cells.png")
    assert list(find_images(smears / "one").files) == ["a.png", "b.png"]
    assert list(find_images(smears, "**/*", "two/**").files) == ["one/a.png", "one/b.png"]
