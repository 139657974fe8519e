"""Annotations as a dataset shows them: `Dataset.coco` and the boxes of its records."""

import pytest
from described import coco_file, describe

from cellfeat.data.catalogue import open_dataset
from cellfeat.errors import CellfeatError


def test_coco_from_file(site):
    coco_file(site)
    describe(site, coco="coco.json")
    dataset = open_dataset("site")
    assert dataset.records()[0].boxes == ((5, 6, 15, 14),)
    assert dataset.records()[1].boxes == ()
    coco = dataset.coco()
    assert coco["categories"] == [{"id": 1, "name": "WBC"}]
    (one,) = coco["annotations"]  # the other image is a deliberate drop
    assert one["category_id"] == 1
    assert one["image_id"] == coco["images"][0]["id"]
    assert isinstance(one["segmentation"]["counts"], str)


def test_labels_from_coco(site):
    coco_file(site, categories=[{"id": 7, "name": "EOS"}])
    describe(site, coco="coco.json", labels={"kind": "coco", "vocabulary": "matek-19"})
    assert [record.label for record in open_dataset("site").records()] == ["eosinophil", "", "eosinophil", ""]


def test_faulty_coco_files(site):
    describe(site, coco="coco.json")
    image = {"id": 1, "file_name": "a.png", "height": 30, "width": 40}
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}
    faults = {
        "no list 'annotations'": {"annotations": None},
        "image 1 has no height, width": {"images": [{"id": 1, "file_name": "a.png"}]},
        "id 1 occurs twice in images": {"images": [image, image]},
        "file_name a.png occurs twice": {"images": [image, image | {"id": 2}], "annotations": []},
        "none of its 1 images is among .*first gone.png": {
            "images": [image | {"file_name": "gone.png"}],
            "annotations": [box],
        },
        "belongs to image 9": {"images": [image], "annotations": [box | {"image_id": 9}]},
        "has category 9": {"images": [image], "annotations": [box | {"category_id": 9}]},
        "positive sides": {"images": [image], "annotations": [box | {"bbox": [1, 2, 0, 4]}]},
        "neither polygons nor RLE": {"images": [image], "annotations": [box | {"segmentation": [1, 2]}]},
        "31 px there": {"images": [image | {"height": 31}], "annotations": [box]},
        "categories cell, RBC; name those": {"categories": [{"id": 7, "name": "cell"}, {"id": 8, "name": "RBC"}]},
    }
    for message, change in faults.items():
        coco_file(site, **change)
        with pytest.raises(CellfeatError, match=message) as caught:
            open_dataset("site").coco()
        assert "\n" not in str(caught.value)
    (site / "coco.json").unlink()
    with pytest.raises(
        CellfeatError,
        match=r"coco.json: no such file or folder of annotations; for a public set",
    ):
        open_dataset("site").coco()


def test_chosen_categories_of_a_coco_file(site):
    two = [{"id": 7, "name": "WBC"}, {"id": 8, "name": "RBC"}]
    box = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    annotations = [{"id": 1, "category_id": 7, **box}, {"id": 2, "category_id": 8, **box}]
    image = {"id": 1, "file_name": "a.png", "height": 30, "width": 40}
    coco_file(site, images=[image], annotations=annotations, categories=two)
    describe(site, coco="coco.json", coco_categories=["WBC"])
    (one,) = open_dataset("site").coco()["annotations"]
    assert "segmentation" not in one


@pytest.mark.parametrize(
    "table", ["file,x_center,y_center,width,height\na.png,0.5,0.5,0.5,0.4\n", "file,x0,y0,x1,y1\na.png,10,9,30,21\n"]
)
def test_boxes_from_a_table(site, table):
    (site / "boxes.csv").write_text(table)
    describe(site, boxes={"kind": "csv", "file": "boxes.csv"})
    dataset = open_dataset("site")
    assert dataset.records()[0].boxes[0] == pytest.approx((10, 9, 30, 21))
    coco = dataset.coco()
    assert [image["image_id"] for image in coco["images"]] == ["site/a.png"]
    assert coco["annotations"][0]["bbox"] == pytest.approx([10, 9, 20, 12])
    assert "segmentation" not in coco["annotations"][0]


def test_boxes_from_yolo(site):
    (site / "boxes" / "sub").mkdir(parents=True)
    (site / "boxes" / "a.txt").write_text("1 0.5 0.5 0.1 0.1\n0 0.9 0.5 0.4 0.4\n")
    (site / "boxes" / "sub" / "d.txt").write_text("")
    describe(site, boxes={"kind": "yolo", "folder": "boxes"})
    coco = open_dataset("site").coco()
    assert [image["image_id"] for image in coco["images"]] == ["site/a.png", "site/sub/d.png"]
    assert coco["annotations"][0]["bbox"] == pytest.approx([28, 9, 12, 12])  # cut at the image's edge
    (site / "boxes" / "a.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(CellfeatError, match=r"a.txt, line 1: needs five words"):
        open_dataset("site").coco()


def test_an_unreadable_image_stays_in_the_list(site):
    (site / "images" / "a.png").write_text("broken")
    (site / "boxes.csv").write_text("file,x0,y0,x1,y1\na.png,1,1,5,5\n")
    describe(site, boxes={"kind": "csv", "file": "boxes.csv"})
    record = open_dataset("site").records()[0]
    assert (record.image_id, record.boxes) == ("site/a.png", ())
