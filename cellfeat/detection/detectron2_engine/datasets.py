"""The catalogue's datasets under Detectron2's names, for its tools, visualisers and evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from cellfeat.detection.classes import ANY_CELL, reference_coco


def register_datasets(
    names: Iterable[str], data_root: Path | None = None, classes: Sequence[str] = (ANY_CELL,)
) -> None:
    """Register datasets of the catalogue; again is harmless. Call it in every process, inside `main`."""
    for name in names:
        for catalogue in (DatasetCatalog, MetadataCatalog):
            if name in catalogue.list():
                catalogue.remove(name)
        DatasetCatalog.register(name, partial(dataset_dicts, name, data_root, classes))
        MetadataCatalog.get(name).set(thing_classes=list(classes))


def dataset_dicts(
    name: str, data_root: Path | None = None, classes: Sequence[str] = (ANY_CELL,)
) -> list[dict[str, Any]]:
    """A dataset in Detectron2's standard format: boxes XYWH px, masks as compressed RLE where there are any."""
    coco = reference_coco(name, classes, data_root)
    dicts = {
        image["id"]: {key: image[key] for key in ("file_name", "height", "width")}
        | {"image_id": image["id"], "um_per_px": image.get("um_per_px"), "bits": image.get("bits")}
        | {"annotations": []}
        for image in coco["images"]
    }
    for annotation in coco["annotations"]:
        entry = {"bbox": annotation["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
        entry["category_id"] = annotation["category_id"] - 1  # Detectron2 counts classes from 0
        if "segmentation" in annotation:
            entry["segmentation"] = annotation["segmentation"]
        dicts[annotation["image_id"]]["annotations"].append(entry)
    return list(dicts.values())


def reference_cells(name: str) -> list[dict[str, Any]]:
    """The reference cells of a registered dataset, in Detectron2's format."""
    return [annotation for each in DatasetCatalog.get(name) for annotation in each["annotations"]]
