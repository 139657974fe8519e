"""Detections leave a store in the frame of the original image, whatever the format."""

from __future__ import annotations

import json
import logging
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from store_helpers import PROVENANCE, SHAPE, cell, image, write

from cellfeat.cli import main
from cellfeat.data.annotations.coco import read_coco
from cellfeat.data.annotations.geometry import decode, encode
from cellfeat.data.crops import crop_cell
from cellfeat.data.dataset import Dataset
from cellfeat.data.spec import DatasetSpec
from cellfeat.errors import CellfeatError
from cellfeat.store import Store, StoreWriter
from cellfeat.store.copying import merge, subset
from cellfeat.store.export import export
from cellfeat.store.export.outlines import polygons

SIDE = 40  # px of crops: boxes of 32 px and a margin of an eighth, so that a crop has the image's pixels
DUMPED = {**PROVENANCE, "dump": {"crop_margin": 0.125}}
BOXES = {"north/a/000.jpg": [(10, 8, 42, 40), (30, 20, 62, 52)], "north/001.png": [(50, 20, 82, 52)]}
LABELS = ["monocyte", "", "blast"]


def found_in(box):
    """A mask of the image: a disc in the box, with a hole and a pixel apart."""
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[:60, :90] + 0.5
    mask = np.hypot(columns - (x0 + x1) / 2, rows - (y0 + y1) / 2) < 15
    mask[y0 + 16, x0 + 14 : x0 + 17] = False
    mask[y0 + 1, x0 + 1] = True
    return mask


@pytest.fixture(scope="module")
def masks():
    """Mask of each cell in the image's frame, by cell id."""
    return {f"{name}#{k}": found_in(box) for name, boxes in BOXES.items() for k, box in enumerate(boxes)}


@pytest.fixture(scope="module")
def store(tmp_path_factory, masks):
    images, labels = [], iter(LABELS)
    for name, boxes in BOXES.items():
        cells = []
        for k, box in enumerate(boxes):
            crop, mask = crop_cell(np.zeros((60, 90, 3), np.uint8), masks[f"{name}#{k}"], box, SIDE, 0.125)
            cells.append(cell(k, crop=crop, mask=mask, box=np.float32(box), score=0.9 - k / 8, label=next(labels)))
        images.append(image(0, cells, image_id=name))
    images.append(image(2, [], image_id="north/empty.jpg"))
    images.append(image(4, [], image_id="north/broken.jpg", width=0, height=0, reason="truncated file"))
    path = tmp_path_factory.mktemp("detections") / "store"
    with StoreWriter(path, SHAPE, SIDE, DUMPED, shard_cells=2) as writer:
        for result in images:
            writer.add(result)
    return Store(path)


def test_coco(store, masks, tmp_path):
    content = json.loads(export(store, tmp_path / "cells.json").read_text())
    assert [entry["file_name"] for entry in content["images"]] == [*BOXES, "north/empty.jpg"]
    assert [entry["name"] for entry in content["categories"]] == ["WBC", "blast", "monocyte"]
    assert [a["segmentation"] for a in content["annotations"]] == [encode(mask) for mask in masks.values()]
    assert [a["cell_id"] for a in content["annotations"]] == list(masks)
    assert [a["bbox"] for a in content["annotations"]] == [[10, 8, 32, 32], [30, 20, 32, 32], [50, 20, 32, 32]]
    assert [a["score"] for a in content["annotations"]] == pytest.approx([0.9, 0.775, 0.9])
    again = read_coco(tmp_path / "cells.json", ["WBC", "blast", "monocyte"])
    assert [c.class_name for entry in again.values() for c in entry.cells] == ["monocyte", "WBC", "blast"]
    assert [c.area for entry in again.values() for c in entry.cells] == [mask.sum() for mask in masks.values()]


def test_geojson_for_qupath(store, masks, tmp_path):
    folder = export(store, tmp_path / "out", "geojson")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.geojson"))
    assert files == ["north/001.geojson", "north/a/000.geojson", "north/empty.geojson"]
    features = json.loads((folder / "north/a/000.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in features] == ["north/a/000.jpg#0", "north/a/000.jpg#1"]
    assert features[0]["properties"]["classification"] == {"name": "monocyte"}
    assert features[0]["properties"]["objectType"] == "detection"
    assert features[1]["properties"]["measurements"]["score"] == pytest.approx(0.775)
    assert features[0]["geometry"]["type"] == "MultiPolygon"
    assert area(features[0]["geometry"]["coordinates"]) == masks["north/a/000.jpg#0"].sum()
    points = np.array([point for part in features[0]["geometry"]["coordinates"] for ring in part for point in ring])
    rows, columns = np.nonzero(masks["north/a/000.jpg#0"])
    assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    assert json.loads((folder / "north/empty.geojson").read_text())["features"] == []


def test_yolo(store, tmp_path):
    folder = export(store, tmp_path / "out", "yolo")
    assert (folder / "classes.txt").read_text().split() == ["WBC", "blast", "monocyte"]
    lines = [line.split() for line in (folder / "north/a/000.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["2", "0"]
    numbers = np.array(lines, float)[:, 1:] * [90, 60, 90, 60]
    np.testing.assert_allclose(numbers, [[26, 24, 32, 32], [46, 36, 32, 32]], atol=1e-5)
    assert (folder / "north/empty.txt").read_text() == ""
    assert not (folder / "north/broken.txt").exists()


def test_label_images(store, masks, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        folder = export(store, tmp_path / "out", "labels")
    assert "1 images that could not be read are left out" in caplog.text
    with Image.open(folder / "north/a/000.png") as picture:
        assert picture.mode == "I;16"
        labels = np.asarray(picture)
    first, second = masks["north/a/000.jpg#0"], masks["north/a/000.jpg#1"]
    np.testing.assert_array_equal(labels, np.where(first, 1, np.where(second, 2, 0)))
    with Image.open(folder / "north/empty.png") as picture:
        assert not np.asarray(picture).any()


@pytest.mark.parametrize("to", ["coco", "geojson", "yolo", "labels"])
def test_what_is_exported_is_read_again(store, masks, tmp_path, to):
    """As the annotations of a dataset that has the same images."""
    for name in [*BOXES, "north/empty.jpg"]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (90, 60)).save(tmp_path / "images" / name)
    export(store, tmp_path / ("out.json" if to == "coco" else "out"), to)
    path, classes = "out.json" if to == "coco" else "out", ("WBC", "blast", "monocyte")
    source = {"annotations": {"path": path, "format": to, "classes": classes}, "labels": {"kind": "annotations"}}
    if to == "labels":
        source = {"masks": {"folder": "out", "kind": "labels", "min_area": 1}}
    dataset = Dataset(DatasetSpec(**{"name": "site", "domain": "site", "images": "images", **source}), tmp_path)
    coco = dataset.coco()
    cells = {image["image_id"]: [] for image in coco["images"]}
    ids = {image["id"]: image["image_id"] for image in coco["images"]}
    for annotation in coco["annotations"]:
        cells[ids[annotation["image_id"]]].append(annotation)
    assert list(cells) == ["site/north/001.png", "site/north/a/000.jpg", "site/north/empty.jpg"]
    found = {f"{name.removeprefix('site/')}#{k}": cell for name, ours in cells.items() for k, cell in enumerate(ours)}
    assert set(found) == set(masks)
    if to != "labels":
        labels = dict(zip(found, dataset.cell_classes()))
        assert labels == {"north/a/000.jpg#0": "monocyte", "north/a/000.jpg#1": "WBC", "north/001.png#0": "blast"}
    covered = np.zeros((60, 90), bool)
    for name, mask in masks.items():
        if to == "yolo":
            x, y, width, height = found[name]["bbox"]
            box = BOXES[name.split("#")[0]][int(name[-1])]
            assert (x, y, x + width, y + height) == pytest.approx(box, abs=1e-3)
            continue
        if to == "labels" and name == "north/a/000.jpg#1":  # the better cell hides what both have
            mask = mask & ~covered
        covered |= mask
        np.testing.assert_array_equal(decode(found[name]["segmentation"]), mask, err_msg=name)


def test_cells_without_a_mask_are_their_box(tmp_path, caplog):
    one = image(0, [cell(0, mask=np.zeros((16, 16), np.uint8), box=np.float32([3, 4, 9, 12]))])
    store = Store(write(tmp_path / "store", [one], DUMPED))
    with caplog.at_level(logging.WARNING):
        [annotation] = json.loads(export(store, tmp_path / "cells.json").read_text())["annotations"]
    assert annotation["area"] == 48
    assert "1 cells have no mask" in caplog.text


def test_the_margin_comes_from_the_provenance(store, tmp_path):
    part = subset(store, tmp_path / "part", label="blast")
    whole = json.loads(export(store, tmp_path / "whole.json").read_text())["annotations"][2]
    [alone] = json.loads(export(part, tmp_path / "part.json").read_text())["annotations"]
    assert alone["segmentation"] == whole["segmentation"]
    other = Store(write(tmp_path / "other", [image(1)], {"dump": {"crop_margin": 0.2}}))
    unknown = Store(write(tmp_path / "unknown", [image(3)], {}))
    same = Store(write(tmp_path / "same", [image(5)], {"crop": {"margin": 0.2}}))
    assert export(merge([other, same], tmp_path / "alike"), tmp_path / "alike.json").is_file()
    third = Store(write(tmp_path / "third", [image(7)], {"dump": {"crop_margin": 0.3}}))
    with pytest.raises(CellfeatError, match=r"crops of the margins \[0.2, 0.3\]"):
        export(merge([other, third], tmp_path / "mixed"), tmp_path / "mixed.json")
    with pytest.raises(CellfeatError, match=r"does not tell the margin of its crops; give it with --crop-margin"):
        export(unknown, tmp_path / "unknown.json")
    assert export(unknown, tmp_path / "unknown.json", crop_margin=0.1).is_file()
    assert not (tmp_path / "mixed.json").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/../../b.png"], "name that no file can have"),
        (["/etc/b.png"], "name that no file can have"),
        (["a/b.png", "a/b.jpg"], "'a/b.png' and 'a/b.jpg' would both be a/b.txt"),
        (["classes.png"], "would both be classes.txt"),
    ],
)
def test_names_that_files_cannot_have(tmp_path, names, words):
    images = [image(2 * k, image_id=name) for k, name in enumerate(names)]
    store = Store(write(tmp_path / "store", images, DUMPED))
    with pytest.raises(CellfeatError, match=words):
        export(store, tmp_path / "out", "yolo")
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_folder_with_files_is_left_alone(store, tmp_path):
    (tmp_path / "out").mkdir()
    assert export(store, tmp_path / "out", "yolo") == tmp_path / "out"
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(CellfeatError, match="out: not empty; choose another folder"):
        export(store, tmp_path / "out", "labels")
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_command_line_writes_detections(store, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["export", str(store.path), "--to", "geojson", "--output", str(tmp_path / "out")])
    assert not stop.value.code
    assert len(list((tmp_path / "out").rglob("*.geojson"))) == 3


def area(parts):
    """Of a MultiPolygon: outer rings less holes."""
    total = 0.0
    for rings in parts:
        sizes = []
        for ring in rings:
            x, y = np.array(ring).T
            sizes.append(abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2)
        total += sizes[0] - sum(sizes[1:])
    return total


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
def test_outlines_have_the_area_of_the_mask(share):
    rng = np.random.default_rng(int(100 * share))
    for _ in range(20):
        mask = rng.random((9, 13)) < share
        parts = polygons(mask)
        assert area(parts) == mask.sum()
        assert all(ring[0] == ring[-1] for rings in parts for ring in rings)
        assert drawn(parts, mask.shape).tolist() == mask.tolist()


def drawn(parts, shape):
    """Pixels whose centre lies within the polygons, by the even-odd rule."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in (np.array(ring) for rings in parts for ring in rings):
        for (x0, y0), (x1, y1) in pairwise(ring):
            if y0 != y1:
                inside ^= ((y0 > rows) != (y1 > rows)) & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside
