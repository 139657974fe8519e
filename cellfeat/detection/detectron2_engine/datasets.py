"""The catalogue's datasets under Detectron2's names, for its tools, visualisers and evaluators."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from cellfeat.data.catalogue import open_dataset


def register_datasets(names: Iterable[str]) -> None:
    """Register datasets of the catalogue; again is harmless. Call it in every process, inside `main`."""
    for name in names:
        for catalogue in (DatasetCatalog, MetadataCatalog):
            if name in catalogue.list():
                catalogue.remove(name)
        DatasetCatalog.register(name, partial(dataset_dicts, name))
        MetadataCatalog.get(name).set(thing_classes=["WBC"])


def dataset_dicts(name: str) -> list[dict[str, Any]]:
    """A dataset in Detectron2's standard format: boxes XYWH px, masks as compressed RLE where there are any."""
    coco = open_dataset(name).coco()
    dicts = {
        image["id"]: {key: image[key] for key in ("file_name", "height", "width")}
        | {"image_id": image["id"], "um_per_px": image.get("um_per_px"), "annotations": []}
        for image in coco["images"]
    }
    for annotation in coco["annotations"]:
        entry = {"bbox": annotation["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
        if "segmentation" in annotation:
            entry["segmentation"] = annotation["segmentation"]
        dicts[annotation["image_id"]]["annotations"].append(entry)
    return list(dicts.values())


def has_masks(name: str) -> bool:
    """Whether a registered dataset has masks, not boxes alone."""
    return any("segmentation" in annotation for each in DatasetCatalog.get(name) for annotation in each["annotations"])
