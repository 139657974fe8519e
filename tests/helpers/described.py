"""Datasets that describe themselves, for the tests of data."""

import yaml

from cellfeat.core.files import write_json


def describe(folder, **keys):
    labels = {"kind": "csv", "file": "labels.csv", "vocabulary": "matek-19"}
    keys = {"images": "images", "labels": labels, "um_per_px": 0.08, **keys}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(keys))


def coco_file(folder, names=("a.png", "sub/c.png"), **changes):
    square = {"bbox": [5, 6, 10, 8], "segmentation": [[5, 6, 15, 6, 15, 14, 5, 14]]}
    content = {
        "images": [{"id": i, "file_name": name, "height": 30, "width": 40} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 7, **square} for i in range(len(names))],
        "categories": [{"id": 7, "name": "cell"}],
    }
    write_json(folder / "coco.json", content | changes)
