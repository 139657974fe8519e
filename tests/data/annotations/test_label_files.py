"""One picture with the same cells in every format: all readers give the same records."""

import base64
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as rle

from cellfeat.data.catalogue import open_dataset
from cellfeat.errors import CellfeatError

HEIGHT, WIDTH = 100, 120
BOX = (10, 20, 50, 60)
SQUARE = [[10, 20], [50, 20], [50, 60], [10, 60]]
BILLION_LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation><filename>&c;</filename></annotation>'


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def voc(inside, name="WBC", size=(HEIGHT, WIDTH)):
    height, width = size
    return (
        f"<annotation><filename>a.png</filename><size><width>{width}</width><height>{height}</height></size>"
        f"<object><name>{name}</name>{inside}</object></annotation>"
    )


def labelme(points=SQUARE, kind="polygon", **further):
    shapes = [{"label": "WBC", "points": points, "shape_type": kind, **further}]
    return json.dumps({"shapes": shapes, "imagePath": "..\\a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH})


def via(shape, attributes=None, project=True):
    region = {"shape_attributes": shape, "region_attributes": attributes or {"class": "WBC"}}
    entries = {"a.png123": {"filename": "a.png", "size": 123, "regions": [region]}}
    return json.dumps({"_via_img_metadata": entries} if project else entries)


def geojson(coordinates, kind="Polygon", **properties):
    properties = {"classification": {"name": "WBC"}, **properties}
    feature = {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


VOC_BOX = "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50.0</xmax><ymax>60</ymax></bndbox>"
VOC_POINTS = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(SQUARE, 1))
VIA_RECT = {"name": "rect", "x": 10, "y": 20, "width": 40, "height": 40}
VIA_POLYGON = {"name": "polygon", "all_points_x": [10, 50, 50, 10], "all_points_y": [20, 20, 60, 60]}
YOLO_POLYGON = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in SQUARE)
HOLE = [[20, 30], [30, 30], [30, 40], [20, 40], [20, 30]]

BOXES = {
    "yolo box": ("l/a.txt", "0 0.25 0.4 0.333333333 0.4\n"),
    "yolo box, Windows": ("l/a.txt", "\ufeff0.0 0.25 0.4 0.333333333 0.4\r\n"),
    "csv px": ("l/b.csv", "file,x0,y0,x1,y1,class\na.png,10,20,50,60,WBC\n"),
    "csv fractions": ("l/b.csv", "File;X_center;y_center;width;height\r\n./a.png;0.25;0.4;0.333333333;0.4\r\n"),
    "voc": ("l/a.xml", voc(VOC_BOX)),
    "voc without a size": ("l/a.xml", voc(VOC_BOX, size=(0, 0))),
    "labelme rectangle": ("l/a.json", labelme([[50, 20], [10, 60]], "rectangle")),
    "X-AnyLabeling rectangle": ("l/a.json", labelme(SQUARE, "rectangle")),
    "via rect": ("l/via.json", via(VIA_RECT)),
    "via csv": (
        "l/via.csv",
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.png,1,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":40,""height"":40}","{""class"":""WBC""}"\n',
    ),
}
MASKS = {
    "yolo polygon": ("l/a.txt", f"0 {YOLO_POLYGON}\n"),
    "voc polygon": ("l/a.xml", voc(f"<polygon>{VOC_POINTS}</polygon>{VOC_BOX}")),
    "labelme polygon": ("l/a.json", labelme()),
    "X-AnyLabeling rotation": ("l/a.json", labelme(SQUARE, "rotation", direction=0.0)),
    "labelme mask": ("l/a.json", labelme([[10, 20], [50, 60]], "mask", mask=png(np.full((40, 40), 255, np.uint8)))),
    "via polygon": ("l/via.json", via(VIA_POLYGON, {"kind": {"WBC": True, "RBC": False}}, project=False)),
    "geojson": ("l/a.geojson", geojson([[*SQUARE, SQUARE[0]]])),
    "geojson multi": ("l/a.png.geojson", geojson([[[*SQUARE, SQUARE[0]]]], "MultiPolygon", objectType="cell")),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that writes a label file beside the image a.png of 120 x 100 px and opens the dataset."""
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    folder = tmp_path / "site"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")

    def write(name, text, path="l", **keys):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
        spec = {"images": "images", "annotations": {"path": path, **keys} if keys else path}
        (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
        return open_dataset("site")

    return write


@pytest.mark.parametrize(("name", "text"), BOXES.values(), ids=BOXES)
def test_boxes(site, name, text):
    dataset = site(name, text)
    [annotation] = dataset.coco()["annotations"]
    x, y, w, h = annotation["bbox"]
    assert (x, y, x + w, y + h) == pytest.approx(BOX, abs=1e-4)
    assert "segmentation" not in annotation
    assert dataset.records()[0].boxes[0] == pytest.approx(BOX, abs=1e-4)
    assert site(name, text, path=name).coco()["annotations"] == [annotation]


@pytest.mark.parametrize(("name", "text"), MASKS.values(), ids=MASKS)
def test_masks(site, name, text):
    [annotation] = site(name, text).coco()["annotations"]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[20:60, 10:50] = 1
    np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), expected)
    assert annotation["bbox"] == [10, 20, 40, 40]
    assert annotation["area"] == 1600


def test_round_shapes_and_holes(site):
    circle = {"name": "circle", "cx": 60, "cy": 50, "r": 20}
    [annotation] = site("l/via.json", via(circle)).coco()["annotations"]
    assert annotation["area"] == pytest.approx(np.pi * 400, rel=0.01)
    [annotation] = site("l/a.geojson", geojson([[*SQUARE, SQUARE[0]], HOLE]), "l/a.geojson").coco()["annotations"]
    assert annotation["area"] == 1500
    text = labelme([[60, 50], [60, 70]], "circle")
    [annotation] = site("l/a.json", text, path="l/a.json").coco()["annotations"]
    assert annotation["area"] == pytest.approx(np.pi * 400, rel=0.01)


def test_parts_of_one_group_are_one_cell(site):
    content = json.loads(labelme(group_id=1))
    content["shapes"].append(content["shapes"][0] | {"points": [[60, 70], [80, 70], [80, 90]]})
    [annotation] = site("l/a.json", json.dumps(content)).coco()["annotations"]
    assert annotation["bbox"] == [10, 20, 70, 69]


def test_qupath_annotations_around_detections_are_no_cells(site):
    content = json.loads(geojson([[*SQUARE, SQUARE[0]]], objectType="detection"))
    region = json.loads(geojson([[[0, 0], [120, 0], [120, 100], [0, 0]]], objectType="annotation"))["features"]
    content["features"] += region
    dataset = site("l/a.geojson", json.dumps(content))
    assert len(dataset.coco()["annotations"]) == 1
    assert dict(dataset.summary().left_out) == {"annotations of class region around detections": 1}


def test_annotations_without_a_class(site):
    content = json.loads(geojson([[*SQUARE, SQUARE[0]]]))
    del content["features"][0]["properties"]["classification"]
    assert len(site("l/a.geojson", json.dumps(content)).coco()["annotations"]) == 1
    with pytest.raises(CellfeatError, match=r"is annotated; left out: 1 annotations without a class"):
        site("l/a.geojson", json.dumps(content), classes=["WBC"]).coco()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l/a.json", labelme([[30, 40]], "point")),
        ("l/via.json", via({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]})),
        ("l/a.geojson", geojson([30, 40], "Point")),
    ],
)
def test_an_image_with_points_is_not_annotated(site, name, text):
    with pytest.raises(CellfeatError, match=r"none of its 1 images is annotated; left out: 1 \w+ annotations without"):
        site(name, text).coco()


def test_classes_are_chosen_by_name_or_number(site, tmp_path):
    text = "0 0.25 0.4 0.3 0.4\n1e0 0.5 0.5 0.2 0.2\n"
    with pytest.raises(CellfeatError, match="has the classes 0, 1; name those of white cells in classes"):
        site("l/a.txt", text).coco()
    for choice in ([1], ["1.0"]):
        dataset = site("l/a.txt", text, classes=choice)
        assert dataset.coco()["annotations"][0]["bbox"] == pytest.approx([48, 40, 24, 20])
        assert dict(dataset.summary().left_out) == {"annotations of class 0": 1}
    with pytest.raises(CellfeatError, match="has no annotation of class 7; it has 0, 1"):
        site("l/a.txt", text, classes=[7]).coco()
    site("l/classes.txt", "RBC\nWBC\n")
    for choice in (["wbc"], [1]):
        assert len(site("l/a.txt", text, classes=choice).coco()["annotations"]) == 1
    (tmp_path / "site/l/sub").mkdir()
    (tmp_path / "site/l/classes.txt").rename(tmp_path / "site/l/sub/classes.txt")
    assert len(site("l/a.txt", text, classes=["WBC"]).coco()["annotations"]) == 1
    (tmp_path / "site/l/classes.txt").write_text("WBC\nRBC\n")
    assert site("l/a.txt", text, classes=["WBC"]).coco()["annotations"][0]["bbox"][:2] == pytest.approx([12, 20])


def test_labels_are_the_classes_of_the_annotations(site, tmp_path):
    dataset = site("l/a.xml", voc(VOC_BOX, name="EOS"))
    spec = yaml.safe_load((tmp_path / "site/dataset.yaml").read_text())
    spec["labels"] = {"kind": "annotations", "vocabulary": "matek-19"}
    (tmp_path / "site/dataset.yaml").write_text(yaml.safe_dump(spec))
    assert dataset.records()[0].label == ""
    assert open_dataset("site").records()[0].label == "eosinophil"


def test_label_files_without_an_image_are_counted(site):
    site("l/gone.txt", "0 0.25 0.4 0.3 0.4\n")
    site("l/._a.txt", "\0\0")
    dataset = site("l/a.txt", "")
    assert dataset.coco()["annotations"] == []
    assert dict(dataset.summary().left_out) == {
        "annotated images that are not there, or several of the name (first gone.txt)": 1
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l/a.txt", "WBC 0.25 0.4 0.3 0.4\n", "a.txt, line 1: the class 'WBC' is no number"),
        ("l/a.txt", "0.5 0.25 0.4 0.3 0.4\n", "class '0.5' is no number"),
        ("l/a.txt", "0 0_1 0.4 0.3 0.4\n", "a word that is no number"),
        ("l/a.txt", "\n0 nan 0.4 0.3 0.4\n", r"a.txt, line 2 has the box \[nan"),
        ("l/a.txt", "0 0.25 0.4 inf 0.4\n", "four finite numbers"),
        ("l/a.txt", "0 0.25 0.4 0 0.4\n", "its sides must be positive"),
        ("l/a.txt", "0 30 40 20 20\n", "must be fractions of the image"),
        ("l/a.txt", "0 0.1 0.1 0.3 0.4\n0 0.5 0.6 0.8 0.9\n", "a.txt, line 1: the box lies outside .*as XYXY"),
        ("l/a.txt", "0 0.25 0.4 0.3 0.4 0.9\n", "needs five words.*remove the confidence"),
        ("l/a.txt", "0 0.25 0.4 0.3\n", "needs five words"),
        ("l/a.txt", "0 0.1 0.1 0.5 0.1 0.5 nan\n", "polygon with the value nan"),
        ("l/a.txt", "0 0.1 0.1 0.5 0.5 0.9 0.9\n", "polygon without area"),
        ("l/b.csv", "file,x0,y0,x1,y1\na.png,500,500,600,600\n", "b.csv, line 2 has the box .*outside its image"),
        ("l/b.csv", "file,x0,y0,x1,y1\na.png,10,10,inf,50\n", "four finite numbers"),
        ("l/b.csv", "file,x0,y0,x1,y1\na.png,10,,20,50\n", "are not four numbers; correct the line"),
        ("l/b.csv", "file;x0;y0;x1;y1\na.png;10,5;10;20;50\n", "are not four numbers; write decimals with a point"),
        ("l/b.csv", "file,x0,y0,x1,y1\na.png,0.1,0.1,0.4,0.5\n", "look like fractions"),
        ("l/b.csv", "file,x0,y0,x1,y1\na.png,10,20,50,60\n./a.png,10,20,50,60\n", "are one file, a.png"),
        ("l/b.csv", "file,a,b\na.png,10,20\n", "needs the columns file,x_center"),
        ("l/a.xml", BILLION_LAUGHS, "a document type or entities"),
        ("l/a.xml", "<annotation>", "is no XML"),
        ("l/a.xml", "<annotations></annotations>", "is no Pascal VOC file.*export it as COCO"),
        ("l/a.xml", voc(VOC_BOX, size=(120, 100)), "is 100 x 120 px there, the image 120 x 100"),
        ("l/a.xml", voc(VOC_BOX, size=("x", 100)), "height \"'x'\""),
        ("l/a.xml", voc(VOC_BOX.replace("<xmin>10", "<xmin>nan")), r"a.xml: object 1 has the box \[nan"),
        ("l/a.xml", voc(VOC_BOX.replace("<xmin>10</xmin>", "")), "object 1 has the box"),
        ("l/a.xml", voc(VOC_BOX.replace("<xmin>10", "<xmin>60")), "its sides must be positive"),
        ("l/a.xml", voc(""), "object 1 has no bndbox"),
        ("l/a.json", labelme([[10, 20], [50, "20"], [50, 60]]), r"shapes\[0\] has a polygon with the value '20'"),
        ("l/a.json", labelme([[10, 20], [50, 20]]), "3 points or more"),
        ("l/a.json", labelme(SQUARE, "blob"), "has the shape_type 'blob'"),
        ("l/a.json", labelme([[10, 20], [50, 60]], "mask", mask="###"), "a mask that is no PNG"),
        ("l/a.json", labelme([[10, 20], [50, 60]], "mask", mask=png(np.zeros((4, 4), np.uint8))), "without a pixel"),
        ("l/a.json", labelme(SQUARE, label=7), "has label 7; it must be a text"),
        ("l/via.json", via({**VIA_RECT, "x": None}), "has x None; it must be a finite number"),
        ("l/via.json", via({**VIA_RECT, "width": -5}), "its sides must be positive"),
        ("l/via.json", via({**VIA_POLYGON, "all_points_y": [1]}), "has 4 x and 1 y"),
        ("l/via.json", via({"name": "cube"}), "has the shape 'cube'"),
        ("l/a.geojson", geojson([[[0, 0], [10, 0], [float("nan"), 10], [0, 0]]]), "polygon with the value nan"),
        ("l/a.geojson", geojson([[500, 500, 0]]), "polygon|ring"),
        ("l/a.geojson", geojson("x"), "has coordinates 'x'; it must be a list"),
        ("l/a.geojson", geojson([], "GeometryCollection"), "has the geometry 'GeometryCollection'"),
        ("l/a.json", '{"a": 1}', "neither COCO, labelme, VIA nor GeoJSON"),
        ("l/a.md", "", "holds no annotations"),
    ],
)
def test_faulty_files_are_refused_in_one_line(site, name, text, message):
    with pytest.raises(CellfeatError, match=message) as caught:
        site(name, text).coco()
    assert "\n" not in str(caught.value)
