import logging

import pytest
import yaml
from PIL import Image

from cellfeat.core.files import write_json
from cellfeat.data.catalogue import open_dataset
from cellfeat.errors import CellfeatError

BOX = {"category_id": 1, "bbox": [5, 6, 10, 8]}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that writes dataset `site` of a.png and s/b.png, 40 x 30 px, and opens it."""
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    for name in ("a.png", "s/b.png"):
        path = tmp_path / "site" / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path)

    def describe(files=(), **keys):
        for name, text in dict(files).items():
            path = tmp_path / "site" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "site" / "dataset.yaml").write_text(yaml.safe_dump({"images": "images", **keys}))
        return open_dataset("site")

    return describe


def coco(path, annotations, names=("a.png", "s/b.png"), categories=("WBC",)):
    images = [{"id": i, "file_name": name, "height": 30, "width": 40} for i, name in enumerate(names)]
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations)]
    listed = [{"id": i, "name": name} for i, name in enumerate(categories, start=1)]
    write_json(path, {"images": images, "annotations": numbered, "categories": listed})


def test_an_image_with_a_crowd_is_not_annotated(site, tmp_path, caplog):
    dataset = site(coco="coco.json")
    crowd = BOX | {"image_id": 1, "iscrowd": 1}
    coco(tmp_path / "site/coco.json", [BOX | {"image_id": 0}, BOX | {"image_id": 1}, crowd])
    with caplog.at_level(logging.INFO, "cellfeat"):
        assert [image["image_id"] for image in dataset.coco()["images"]] == ["site/a.png"]
        dataset.coco()
    assert [record.boxes for record in dataset.records()] == [((5, 6, 15, 14),), ()]
    assert caplog.messages == [str(dataset.summary())]
    assert caplog.messages[0] == (
        "site: 2 images, 1 annotated, 1 reference cells, 0 with a mask; left out: 1 crowd annotations "
        "(iscrowd 1), 1 images with such annotations, which count as not annotated"
    )
    coco(tmp_path / "site/coco.json", [crowd | {"image_id": 0}, crowd])
    with pytest.raises(CellfeatError, match=r"none of its 2 images is annotated; left out: 2 crowd annotations"):
        open_dataset("site").coco()


@pytest.mark.parametrize("orientation", [3, 6])
def test_images_that_exif_turns_are_left_out_unless_the_labels_are_known_to_be_as_stored(site, tmp_path, orientation):
    coco(tmp_path / "coco.json", [BOX | {"image_id": 0}, BOX | {"image_id": 1}])
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(tmp_path / "site/images/a.png", exif=exif)
    text = (tmp_path / "coco.json").read_text()
    dataset = site({"coco.json": text}, coco="coco.json")
    assert [image["image_id"] for image in dataset.coco()["images"]] == ["site/s/b.png"]
    assert [len(record.boxes) for record in dataset.records()] == [0, 1]
    assert "1 annotated images that EXIF turns (turn the files, or say orientation: stored" in str(dataset.summary())
    assert len(site(coco="coco.json", orientation="stored").coco()["images"]) == 2
    with pytest.raises(CellfeatError, match="site is strict: 1 annotated images that EXIF turns"):
        site(coco="coco.json", strict=True).coco()


def test_what_is_left_out_is_counted(site, tmp_path):
    (tmp_path / "site/images/s/b.png").write_bytes(b"broken")
    dataset = site(coco="coco.json", coco_categories=["wbc"])
    annotations = [BOX | {"image_id": 0}, BOX | {"image_id": 0, "category_id": 2}, BOX | {"image_id": 1}]
    coco(tmp_path / "site/coco.json", annotations, ("a.png", "s/b.png", "gone.png"), ("WBC", "RBC"))
    summary = dataset.summary()
    assert (summary.images, summary.annotated, summary.cells, summary.masks) == (2, 1, 1, 0)
    assert dict(summary.left_out) == {
        "annotations of class RBC": 1,
        "annotated images that are not there, or several of the name (first gone.png)": 1,
        "annotated images that cannot be read": 1,
    }


@pytest.mark.parametrize("second", ["./a.png", "images/a.png", " a.png"])
def test_two_names_of_one_file_are_an_error(site, tmp_path, second):
    dataset = site(coco="coco.json")
    coco(tmp_path / "site/coco.json", [], ("a.png", second))
    with pytest.raises(CellfeatError, match=r"are one file, a.png, which occurs twice"):
        dataset.coco()


def test_a_dataset_without_annotations_has_a_summary(site):
    assert str(site().summary()) == "site: 2 images, 0 annotated, 0 reference cells, 0 with a mask"


def test_a_strict_dataset_refuses_what_would_be_left_out(site, tmp_path):
    dataset = site(coco="coco.json", strict=True)
    coco(tmp_path / "site/coco.json", [], ("a.png", "gone.png"))
    with pytest.raises(
        CellfeatError,
        match=r"is strict: 1 annotated images that are not there, or several of the name \(first gone.png\)",
    ):
        dataset.coco()


def test_names_with_line_breaks_stay_on_one_line(site, tmp_path):
    dataset = site(coco="coco.json", coco_categories=["WBC"])
    annotations = [BOX | {"image_id": 0, "category_id": 2}]
    coco(tmp_path / "site/coco.json", annotations, ("a.png", "gone\n\x1b[31m.png"), ("WBC", "R\nBC"))
    assert "\n" not in str(dataset.summary())
    assert "\x1b" not in str(dataset.summary())
