"""The classes of a detector: one, any white blood cell, or those of its datasets.

With `MODEL.ROI_HEADS.NUM_CLASSES` above 1 a detector predicts a class for every cell. `MODEL.ROI_HEADS.CLASSES` names
them in the order of the network's outputs; where it is empty, training takes the classes of DATASETS.TRAIN in
alphabetical order and writes them into config.yaml.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.data.catalogue import open_dataset
from cellfeat.errors import CellfeatError

ANY_CELL = "WBC"

log = logging.getLogger(__name__)


def class_names(cfg: CfgNode) -> tuple[str, ...]:
    """Names in the order of the network's outputs; numbers as names where a config of several classes has none."""
    heads = cfg.MODEL.ROI_HEADS
    if heads.CLASSES:
        return tuple(heads.CLASSES)
    return (ANY_CELL,) if heads.NUM_CLASSES == 1 else tuple(f"class {k}" for k in range(heads.NUM_CLASSES))


def with_classes(cfg: CfgNode, datasets: Sequence[str], data_root: Path | None = None) -> CfgNode:
    """The config with its classes named, from the datasets where it names none itself.

    Raises:
        CellfeatError: The number of names is not NUM_CLASSES, or a name occurs twice.
    """
    heads = cfg.MODEL.ROI_HEADS
    names = [str(name) for name in heads.CLASSES]
    if not names:
        if heads.NUM_CLASSES == 1:
            return cfg
        names = sorted({one for name in datasets for one in open_dataset(name, data_root).cell_classes() if one})
    if len(names) != heads.NUM_CLASSES or len(set(names)) < len(names):
        source = "MODEL.ROI_HEADS.CLASSES names" if heads.CLASSES else f"{', '.join(datasets)}: the cells are of"
        raise CellfeatError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {heads.NUM_CLASSES}, but {source} {len(set(names))} classes "
            f"({', '.join(names) or 'none'})",
            f"set it to {len(set(names))}, or name the classes wanted in MODEL.ROI_HEADS.CLASSES",
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.CLASSES = tuple(names)
    cfg.freeze()
    return cfg


def reference_coco(dataset: str, classes: Sequence[str], data_root: Path | None = None) -> dict[str, Any]:
    """A dataset's reference cells with `classes` as COCO categories, ids from 1 in their order.

    With several classes, an image is left out if one of its cells has none of them: as an image of fewer cells it would
    teach that such a cell is background. How many are left out is logged.

    Raises:
        CellfeatError: As `Dataset.coco`, or no image is left.
    """
    opened = open_dataset(dataset, data_root)
    coco = opened.coco()
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    if len(classes) == 1:
        return {**coco, "categories": categories}
    ids = {category["name"]: category["id"] for category in categories}
    named = list(zip(coco["annotations"], opened.cell_classes(), strict=True))
    others = {name for _, name in named} - set(classes)
    outside = {annotation["image_id"] for annotation, name in named if name in others}
    images = [image for image in coco["images"] if image["id"] not in outside]
    listed = ", ".join(sorted(name or "no class" for name in others))
    if not images:
        raise CellfeatError(
            f"dataset {dataset}: every image has cells of other classes than {', '.join(classes)} ({listed})",
            "name its classes in MODEL.ROI_HEADS.CLASSES, or correct its vocabulary",
        )
    if outside:
        log.warning(
            "%s: %d of %d images left out, with cells of %s", dataset, len(outside), len(coco["images"]), listed
        )
    kept = [
        {**annotation, "category_id": ids[name]} for annotation, name in named if annotation["image_id"] not in outside
    ]
    return {**coco, "images": images, "annotations": kept, "categories": categories}
