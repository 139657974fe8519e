import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from described import describe
from PIL import Image

from cellfeat.data.catalogue import data_root, dataset_names, describe_datasets, open_dataset
from cellfeat.data.outside import outside_paths
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError


def test_data_root(monkeypatch):
    monkeypatch.delenv("CELLFEAT_DATASETS", raising=False)
    assert data_root() == Path("datasets")
    monkeypatch.setenv("CELLFEAT_DATASETS", "/data/blood")
    assert data_root() == Path("/data/blood")


def test_every_entry_of_the_catalogue_is_sound(root):
    names = dataset_names()
    assert {"matek-19", "acevedo-20", "int-20", "pbc-barcelona", "wbc-seg-bccd", "raabin-boxes"} <= set(names)
    for name in names:
        spec = open_dataset(name).spec
        assert spec.name == name
        assert spec.title
        assert spec.licence != "not stated"
        assert spec.citation != "not stated"
        load_vocabulary(spec.labels.vocabulary)


def test_missing_datasets_say_what_to_do(root):
    with pytest.raises(CellfeatError, match=r"'matek19': not in the catalogue .*matek-19.*CELLFEAT_DATASETS"):
        open_dataset("matek19")
    with pytest.raises(
        CellfeatError,
        match=r"no folder .*matek-19/original; get its images",
    ):
        open_dataset("matek-19").records()
    (root / "matek-19" / "original").mkdir(parents=True)
    with pytest.raises(CellfeatError, match=r"no image in .* matches '\*/\*.tiff'"):
        open_dataset("matek-19").records()


def test_faulty_descriptions(site):
    faults = {
        "unknown key 'maks'": {"maks": {}},
        "unknown key 'labels.fiel'": {"labels": {"kind": "none", "fiel": 1}},
        "um_per_px: .*greater than 0": {"um_per_px": 0},
        "um_per_px: .*finite": {"um_per_px": float("inf")},
        "bits: .*less than or equal to 16 .got 24": {"bits": 24},
        "bits: .*greater than or equal to 8": {"bits": 1},
        "domain: ": {"domain": "  "},
        "line 1: an escape for a sign that is no text": {"images": "a\0b"},
        "images: holds a control character": {"images": "a\nb"},
        "only one of masks, annotations, coco and boxes": {"coco": "c.json", "masks": {"folder": "m"}},
        "labels: .*kind csv needs it": {"labels": {"kind": "csv"}},
        "kind csv needs `file`": {"boxes": {"kind": "csv"}},
        "labels of kind coco": {"labels": {"kind": "coco"}},
        "name is 'other'": {"name": "other"},
    }
    for message, change in faults.items():
        describe(site, **change)
        with pytest.raises(CellfeatError, match=message) as caught:
            open_dataset("site")
        assert "\n" not in str(caught.value)
    for text in ("a: [", "- 1\n"):
        (site / "dataset.yaml").write_text(text)
        with pytest.raises(CellfeatError, match=r"dataset.yaml"):
            open_dataset("site")


@pytest.mark.parametrize(
    "path", ["../images", "/etc", "a/../../b", "C:\\images", "..\\images", "\\\\server\\share", "~/images", "C:images"]
)
@pytest.mark.parametrize(
    "key", ["images", "pattern", "table", "labels.file", "labels.vocabulary", "masks.folder", "masks.name", "coco"]
)
def test_a_description_cannot_leave_its_folder(site, path, key):
    outer, _, inner = key.partition(".")
    described = {"labels": {"kind": "csv", "file": "labels.csv"}, "masks": {"folder": "masks"}}.get(outer, {})
    keys = {outer: described | {inner: path} if inner else path}
    describe(site, **keys)
    with pytest.raises(CellfeatError, match=r"leaves the dataset's folder; put a link .* --allow-outside") as error:
        open_dataset("site")
    assert key in str(error.value)
    with outside_paths():
        open_dataset("site")


def test_an_empty_description_means_defaults(root):
    for name in ("Klinik München 1", unicodedata.normalize("NFD", "Präparate"), "St. Mary's"):
        (root / name).mkdir()
        (root / name / "dataset.yaml").touch()
        Image.new("L", (8, 8)).save(root / name / "a.png")
    [record] = open_dataset("Klinik München 1").records()
    assert (record.image_id, record.domain, record.label) == ("Klinik München 1/a.png", "Klinik München 1", "")
    [record] = open_dataset("Präparate").records()
    assert record.image_id == "Präparate/a.png"
    assert len(open_dataset("St. Mary's").records()) == 1


def test_a_faulty_description_hides_no_other(site, root):
    faults = {"yaml": b"a: [", "bytes": "title: Universität".encode("cp1252"), "key": b"maks: {}", "@": b""}
    for name, content in faults.items():
        (root / name).mkdir()
        (root / name / "dataset.yaml").write_bytes(content)
    os.mkfifo(root / "pipe")
    (root / "fifo").mkdir()
    os.mkfifo(root / "fifo" / "dataset.yaml")
    os.mkdir(os.fsencode(root) + b"/gr\xf6\xdfe")
    (Path(os.fsdecode(os.fsencode(root) + b"/gr\xf6\xdfe")) / "dataset.yaml").touch()
    found = describe_datasets()
    assert not isinstance(found["site"], CellfeatError)
    assert not isinstance(found["matek-19"], CellfeatError)
    faulty = {name for name, spec in found.items() if isinstance(spec, CellfeatError)}
    assert faulty == {*faults, "fifo", "gr\\xf6\\xdfe"}
    assert all("\n" not in str(found[name]) for name in faulty)


def test_a_description_of_a_known_set_is_said_not_to_be_read(root, caplog):
    (root / "bccd").mkdir()
    (root / "bccd" / "dataset.yaml").write_text("title: my own\n")
    assert open_dataset("bccd").spec.title != "my own"
    assert "the package knows bccd; rename the folder" in caplog.text


@pytest.fixture
def subsets():
    if not (data_root() / "pbc-barcelona").is_dir():
        pytest.skip("CELLFEAT_DATASETS names no folder with the subsets of datasets/README.md")


@pytest.mark.parametrize(
    ("name", "images", "classes", "instances"),
    [
        ("pbc-barcelona", 1500, 10, 1347),
        ("apl-hopkins", 867, 13, None),
        ("marrow-munich", 360, 6, None),
        ("aml-munich", 200, 2, None),
        ("raabin-boxes", 100, 0, 101),
        ("wbc-seg-tecom", 217, 4, 217),
        ("wbc-seg-cellavision", 67, 4, 67),
        ("wbc-seg-bccd", 259, 4, 269),
    ],
)
def test_counts_of_the_subsets(subsets, name, images, classes, instances):
    dataset = open_dataset(name)
    records = dataset.records()
    assert len(records) == images
    assert len({record.group for record in records}) == (81 if name == "apl-hopkins" else 1)
    assert len({record.label for record in records} - {""}) == classes
    assert dataset.dropped == {}
    if instances is not None:
        assert len(dataset.coco()["annotations"]) == instances


@pytest.mark.parametrize("name", ["wbc-seg-tecom", "wbc-seg-cellavision", "wbc-seg-bccd"])
def test_components_are_those_of_the_tables(subsets, name):
    from cellfeat.data.tables import read_table

    rows = read_table(data_root() / name / "labels.csv").rows
    expected = {f"{name}/{row['file']}": int(row["wbc_components"]) for row in rows}
    coco = open_dataset(name).coco()
    found = Counter(annotation["image_id"] for annotation in coco["annotations"])
    assert {image["image_id"]: found[image["id"]] for image in coco["images"]} == expected
