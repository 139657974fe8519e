import numpy as np
import pytest
from pycocotools import mask as rle

from cellfeat.core.files import write_json
from cellfeat.data.annotations import read_coco
from cellfeat.errors import CellfeatError

HEIGHT, WIDTH = 100, 120
IMAGE = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0}
NAN, INF = float("nan"), float("inf")


def disc():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((x - 50) ** 2 + (y - 40) ** 2 < 400).astype(np.uint8)


def compressed(mask):
    runs = rle.encode(np.asfortranarray(mask))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def plain(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def read(tmp_path, *annotations, images=(IMAGE,), categories=({"id": 1, "name": "WBC"},), classes=None):
    path = tmp_path / "coco.json"
    lists = {"images": list(images), "annotations": list(annotations), "categories": list(categories)}
    write_json(path, lists)
    return read_coco(path, classes)


@pytest.mark.parametrize("write", [compressed, plain])
def test_masks_are_read_as_they_were(tmp_path, write):
    [cell] = read(tmp_path, BOX | {"bbox": [30, 20, 40, 40], "segmentation": write(disc())})["a.png"].cells
    np.testing.assert_array_equal(rle.decode(cell.mask), disc())
    assert cell.area == disc().sum()


def test_polygons_are_united_and_cut_at_the_edge(tmp_path):
    polygons = [[-500, 10, 20, 10, 20, 30, -500, 30], [15, 10, 40, 10, 40, 30, 15, 30]]
    [cell] = read(tmp_path, BOX | {"bbox": [0, 10, 40, 20], "segmentation": polygons})["a.png"].cells
    mask = rle.decode(cell.mask)
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[10:30, :40].all()
    assert mask.sum() == 800


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [100, 120], "counts": [100, 50, 20]}, "an RLE of 170 px, its image 12000 px"),
        ({"size": [100, 120], "counts": [100, 50, 10**30]}, "an RLE of 1000"),
        ({"size": [100, 120], "counts": [-1, 12001]}, "a run of -1 px"),
        ({"size": [100, 120], "counts": [0.5, 11999.5]}, "whole numbers or"),
        ({"size": [100, 120], "counts": [True, 11999]}, "whole numbers or"),
        ({"size": [100, 120], "counts": [12000]}, "an empty mask"),
        ({"size": [100, 120], "counts": "ooooo"}, "no runs of COCO"),
        ({"size": [100, 120], "counts": "Ä"}, "no runs of COCO"),
        ({"size": [100, 120], "counts": ""}, "no runs of COCO"),
        ({"size": [100, 120], "counts": "oooooooo0"}, "beyond any image"),
        ({"size": [100, 120], "counts": compressed(np.ones((300, 300), np.uint8))["counts"]}, "an RLE of 90000 px"),
        ({"size": [120, 100], "counts": [0, 12000]}, r"a mask of 120 x 100 px \(h x w\), its image 100 x 120"),
        ({"size": "all", "counts": [0, 12000]}, "an RLE of size 'all'"),
        ({"counts": [0, 12000]}, "an RLE of size None"),
        ([[10, 10, 40, 10]], "3 points or more"),
        ([[10, 10, 40, 10, 40]], "3 points or more"),
        ([[10, 10, 40, 10, 40, NAN]], "a polygon with the value nan"),
        ([[10, 10, 1e300, 10, 40, 40]], "a polygon with the value 1e\\+300"),
        ([[10, 10, "40", 10, 40, 40]], "a polygon with the value '40'"),
        ([[10, 10, 10, 10, 10, 10]], "a polygon without area"),
        ([[10, 10, 20, 20, 30, 30]], "a polygon without area"),
        ([[-50, -50, -20, -50, -20, -20]], "a polygon without area inside its image of 120 x 100"),
        ([[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]], "look like fractions"),
        ([[x, y] for x, y in ((10, 10), (40, 10), (40, 40))], "3 points or more"),
        ("polygon", "neither polygons nor RLE"),
        ([[60, 60, 90, 60, 90, 90, 60, 90]], "its mask lies in .*correct one of them"),
    ],
)
def test_faulty_segmentations_are_refused(tmp_path, segmentation, message):
    with pytest.raises(CellfeatError, match=rf"coco.json: annotation 1 .*{message}") as caught:
        read(tmp_path, BOX | {"segmentation": segmentation})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ({}, {"bbox": ["10", "10", "30", "30"]}),
        ({}, {"bbox": [None] * 4}),
        ({}, {"bbox": [10, 10, 30]}),
        ({}, {"bbox": "10 10 30 30"}),
        ({}, {"bbox": [True, 10, 30, 30]}),
        ({}, {"bbox": [NAN, 10, 30, 30]}),
        ({}, {"bbox": [10, 10, INF, 30]}),
        ({}, {"bbox": [10, 10, 10**200, 30]}),
        ({}, {"bbox": [500, 500, 30, 30]}),
        ({}, {"bbox": [0.1, 0.1, 0.25, 0.3]}),
        ({}, {"bbox": [0, 0, 1, 1]}),
        ({}, {"bbox": [10, 10, -5, 30]}),
        ({}, {"bbox": None}),
        ({}, {"area": None}),
        ({}, {"area": [900]}),
        ({}, {"area": NAN}),
        ({}, {"id": [1]}),
        ({}, {"id": None}),
        ({}, {"image_id": [1]}),
        ({}, {"category_id": [1]}),
        ({}, {"category_id": 2}),
        ({}, {"iscrowd": 2}),
        ({}, {"iscrowd": []}),
        ({"width": None}, {}),
        ({"width": "120.0"}, {}),
        ({"width": 0}, {}),
        ({"width": 10**9}, {}),
        ({"width": 120.5}, {}),
        ({"width": 50_000, "height": 50_000}, {}),
        ({"file_name": None}, {}),
        ({"file_name": 7}, {}),
        ({"file_name": " "}, {}),
    ],
)
def test_values_of_another_type_or_range_are_refused(tmp_path, image, annotation):
    with pytest.raises(CellfeatError, match=r"coco.json: (image|annotation)") as caught:
        read(tmp_path, BOX | annotation, images=[IMAGE | image])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", [0, False, "0", "false", None])
def test_flags_that_mean_no_crowd(tmp_path, flag):
    assert len(read(tmp_path, BOX | {"iscrowd": flag})["a.png"].cells) == 1


@pytest.mark.parametrize("flag", [1, True, "1", "True"])
def test_crowds_are_counted(tmp_path, flag):
    image = read(tmp_path, BOX, BOX | {"id": 2, "iscrowd": flag})["a.png"]
    assert (len(image.cells), image.incomplete) == (1, {"crowd annotations (iscrowd 1)": 1})


def test_ids_are_compared_by_value(tmp_path):
    images = [IMAGE | {"id": "1"}, IMAGE | {"id": "b", "file_name": "b.png"}, IMAGE | {"id": 3e7, "file_name": "c.png"}]
    of_images = [{"image_id": 1.0, "category_id": "1"}, {"id": "2", "image_id": "b"}, {"id": 3, "image_id": 30_000_000}]
    found = read(tmp_path, *(BOX | more for more in of_images), images=images)
    assert {name: len(image.cells) for name, image in found.items()} == {"a.png": 1, "b.png": 1, "c.png": 1}
    with pytest.raises(CellfeatError, match="id 1 occurs twice"):
        read(tmp_path, images=[IMAGE, IMAGE | {"id": "1", "file_name": "b.png"}])


def test_chosen_classes_and_the_others(tmp_path):
    categories = [{"id": 1, "name": "WBC"}, {"id": 2, "name": "RBC"}]
    annotations = BOX, BOX | {"id": 2, "category_id": 2}, BOX | {"id": 3, "category_id": 2}
    for choice in (["WBC"], [" wbc"], [1], ["1.0"]):
        image = read(tmp_path, *annotations, categories=categories, classes=choice)["a.png"]
        assert [cell.class_name for cell in image.cells] == ["WBC"]
        assert image.other_classes == {"RBC": 2}
    with pytest.raises(CellfeatError, match="has no categories PLT; it has WBC, RBC"):
        read(tmp_path, *annotations, categories=categories, classes=["PLT"])


def test_boxes_over_the_edge_are_cut(tmp_path):
    [cell] = read(tmp_path, BOX | {"bbox": [-20, 80, 60, 4000]})["a.png"].cells
    assert cell.box == (0, 80, 40, 100)


def test_xyxy_for_xywh_is_noticed(tmp_path):
    corners = [BOX | {"bbox": [10, 10, 40, 40]}, BOX | {"id": 2, "bbox": [70, 50, 110, 90]}]
    with pytest.raises(CellfeatError, match=r"annotation 2 .*outside its image; as XYXY all boxes of the file fit"):
        read(tmp_path, *corners)
    polygon = [[50, 40, 90, 40, 90, 80, 50, 80]]
    with pytest.raises(CellfeatError, match=r"annotation 1 .*it seems to be XYXY"):
        read(tmp_path, BOX | {"bbox": [50, 40, 90, 80], "segmentation": polygon})


def test_a_wild_outline_is_refused_before_it_takes_memory(tmp_path):
    zigzag = [value for i in range(20_000) for value in (i % 2 * 119, 1 + i % 98)]
    with pytest.raises(CellfeatError, match="an outline of"):
        read(tmp_path, BOX | {"segmentation": [zigzag]})
