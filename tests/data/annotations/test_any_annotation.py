"""Whatever is written, in whatever format: the records are those of the cells, or one line says what is wrong."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle

from cellfeat.data.annotations import read_coco
from cellfeat.data.masks import MaskItem, masks_to_coco
from cellfeat.data.reference import ReferenceCells
from cellfeat.data.spec import AnnotationSource
from cellfeat.errors import CellfeatError

HEIGHT, WIDTH = 40, 48
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
POISON = st.sampled_from(
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        1e300,
        -1e9,
        -1,
        0,
        0.5,
        10**200,
        None,
        True,
        "x",
        "",
        "7",
        [],
        {},
        [[]],
    ]
)
"""What should not be there; some of it fits some places."""


@st.composite
def boxes(draw):
    """XYXY px of whole numbers inside the image, at least 3 px a side."""
    x0, y0 = draw(st.integers(0, WIDTH - 3)), draw(st.integers(0, HEIGHT - 3))
    return x0, y0, draw(st.integers(x0 + 3, WIDTH)), draw(st.integers(y0 + 3, HEIGHT))


CELLS = st.lists(boxes(), min_size=1, max_size=4)


def corners(box):
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def coco_polygons(cells):
    return _coco(cells, lambda box: [[value for point in corners(box) for value in point]])


def coco_runs(cells):
    return _coco(cells, lambda box: {"size": [HEIGHT, WIDTH], "counts": _runs(box)})


def coco_text(cells):
    return _coco(cells, lambda box: {"size": [HEIGHT, WIDTH], "counts": rle.encode(_mask(box))["counts"].decode()})


def _coco(cells, segmentation):
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": (x1 - x0) * (y1 - y0)}
        | {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": segmentation((x0, y0, x1, y1))}
        for i, (x0, y0, x1, y1) in enumerate(cells)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "WBC"}]}


def _mask(box):
    x0, y0, x1, y1 = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask


def _runs(box):
    flat = _mask(box).ravel(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(edges).tolist()
    return [0, *runs] if flat[0] else runs


def labelme(cells):
    shapes = [{"label": "WBC", "points": corners(box), "shape_type": "polygon", "group_id": None} for box in cells]
    return {"shapes": shapes, "imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}


def via(cells):
    regions = [
        {"shape_attributes": {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}}
        | {"region_attributes": {"class": "WBC"}}
        for x0, y0, x1, y1 in cells
    ]
    return {"a.png1": {"filename": "a.png", "size": 1, "regions": regions}}


def geojson(cells):
    features = [
        {"type": "Feature", "properties": {"objectType": "cell", "classification": {"name": "WBC"}}}
        | {"geometry": {"type": "Polygon", "coordinates": [[*corners(box), corners(box)[0]]]}}
        for box in cells
    ]
    return {"type": "FeatureCollection", "features": features}


def yolo_boxes(cells):
    lines = [
        [0, (x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
        for x0, y0, x1, y1 in cells
    ]
    return [[str(word) for word in line] for line in lines]


def yolo_polygons(cells):
    return [["0", *(str(v) for x, y in corners(box) for v in (x / WIDTH, y / HEIGHT))] for box in cells]


def table(cells):
    return [["file", "x0", "y0", "x1", "y1"], *[["a.png", *(str(value) for value in box)] for box in cells]]


def voc(cells):
    parts = ["<annotation><filename>a.png</filename><size><width>", str(WIDTH), "</width><height>", str(HEIGHT)]
    parts.append("</height></size>")
    for box in cells:
        parts.append("<object><name>WBC</name><bndbox>")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            parts += [f"<{side}>", str(value), f"</{side}>"]
        parts.append("</bndbox></object>")
    return [[*parts, "</annotation>"]]


@dataclass
class Format:
    write: object
    name: str
    separator: str = " "

    def text(self, content):
        if isinstance(content, list):
            return "\n".join(self.separator.join(words) for words in content)
        return json.dumps(content)


FORMATS = {
    "coco_polygons": Format(coco_polygons, "a.json"),
    "coco_runs": Format(coco_runs, "a.json"),
    "coco_text": Format(coco_text, "a.json"),
    "labelme": Format(labelme, "a.json"),
    "via": Format(via, "a.json"),
    "geojson": Format(geojson, "a.geojson"),
    "yolo_boxes": Format(yolo_boxes, "a.txt"),
    "yolo_polygons": Format(yolo_polygons, "a.txt"),
    "table": Format(table, "a.csv", ","),
    "voc": Format(voc, "a.xml", ""),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A function that writes an annotation file and gives the COCO annotations of its image."""
    folder = tmp_path_factory.mktemp("any")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")

    def read(form, content):
        path = folder / form.name
        path.write_text(form.text(content), encoding="utf-8", errors="surrogatepass")
        source = AnnotationSource(path=form.name)
        coco, left_out = ReferenceCells(source, folder, {"a.png": folder / "a.png"}).coco(["a.png"], str)
        return coco["annotations"], left_out

    return read


def attempt(read, *arguments):
    """What is read, and "", or nothing and the error."""
    try:
        return read(*arguments), ""
    except CellfeatError as error:
        return None, str(error)


def check(annotations):
    """What every record promises."""
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        assert np.isfinite([x, y, w, h, annotation["area"]]).all()
        assert 0 <= x < x + w <= WIDTH + 1e-6
        assert 0 <= y < y + h <= HEIGHT + 1e-6
        if "segmentation" in annotation:
            mask = rle.decode(annotation["segmentation"])
            assert mask.shape == (HEIGHT, WIDTH)
            assert set(np.unique(mask)) <= {0, 1}
            assert mask.sum() == annotation["area"] > 0


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@FEW
@given(cells=CELLS)
def test_cells_are_read_as_they_were_written(read, form, cells):
    annotations, _ = read(form, form.write(cells))
    check(annotations)
    found = [annotation["bbox"] for annotation in annotations]
    np.testing.assert_allclose(found, [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in cells], atol=1e-6)
    for annotation, box in zip(annotations, cells, strict=True):
        if "segmentation" in annotation:
            np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), _mask(box))


def places(content, path=()):
    """The paths of all values of a JSON content."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@FEW
@given(data=st.data())
def test_what_is_wrong_is_one_line_or_no_harm(read, form, data):
    content = form.write(data.draw(CELLS))
    *folder, last = data.draw(st.sampled_from(list(places(content))))
    poison = data.draw(POISON)
    place = content
    for key in folder:
        place = place[key]
    place[last] = poison if not isinstance(content, list) else [str(poison)] if not folder else str(poison)
    found, error = attempt(read, form, content)
    assert "\n" not in error
    if found is not None:
        check(found[0])


@FEW
@given(counts=st.text(st.characters(min_codepoint=47, max_codepoint=113), max_size=12))
def test_any_text_of_runs(read, counts):
    content = coco_text([(4, 4, 20, 20)])
    content["annotations"][0]["segmentation"]["counts"] = counts
    found, error = attempt(read, FORMATS["coco_text"], content)
    if found is not None:
        check(found[0])
    else:
        assert "annotation 0" in error


@FEW
@given(runs=st.lists(st.integers(-3, HEIGHT * WIDTH), max_size=8))
def test_any_runs(tmp_path, runs):
    content = coco_runs([(0, 0, WIDTH, HEIGHT)])
    content["annotations"][0]["segmentation"]["counts"] = [*runs, HEIGHT * WIDTH - sum(runs)]
    (tmp_path / "a.json").write_text(json.dumps(content))
    found, error = attempt(read_coco, tmp_path / "a.json")
    if found is not None:
        [cell] = found["a.png"].cells
        assert rle.decode(cell.mask).sum() == sum([*runs, HEIGHT * WIDTH - sum(runs)][1::2])
    else:
        assert "annotation 0" in error


@FEW
@given(points=st.lists(st.tuples(*[st.floats(-100, 200)] * 2), min_size=3, max_size=12))
def test_any_polygon_is_cut_at_the_edges(read, points):
    content = labelme([]) | {"shapes": [{"label": "WBC", "points": points}]}
    found, error = attempt(read, FORMATS["labelme"], content)
    if found is not None:
        check(found[0])
    else:
        assert "shapes[0]" in error


@FEW
@given(data=st.data())
def test_any_label_image(tmp_path, data):
    values = data.draw(st.lists(st.integers(0, 5), min_size=30, max_size=30))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32]))
    labels = np.array(values, dtype).reshape(5, 6)
    Image.new("RGB", (6, 5)).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "mask.tif")
    item = MaskItem("a.png", tmp_path / "a.png", tmp_path / "mask.tif")
    if not labels.any():
        return
    decoded = [rle.decode(a["segmentation"]) for a in masks_to_coco([item], 0, 1, "labels")["annotations"]]
    np.testing.assert_array_equal(decoded, [labels == number for number in np.unique(labels) if number])
