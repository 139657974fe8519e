"""COCO average precision of boxes and masks, by pycocotools: the figures of Detectron2's COCOEvaluator."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellfeat.core.progress import Progress
from cellfeat.data.images import read_rgb
from cellfeat.detection.classes import ANY_CELL, reference_coco
from cellfeat.detection.detector import Detector
from cellfeat.detection.structures import CellInstances

METRICS = ("AP", "AP50", "AP75")  # mean over IoU 0.50:0.05:0.95, at 0.50, at 0.75
Scores = dict[str, dict[str, float | None]]

log = logging.getLogger(__name__)


def evaluate_dataset(
    detector: Detector,
    dataset: str,
    batch_size: int = 4,
    masks: bool = True,
    data_root: Path | None = None,
    classes: Sequence[str] = (ANY_CELL,),
) -> Scores:
    """Average precision of `detector` on a dataset of the catalogue.

    Args:
        detector: Either engine's.
        dataset: Its name.
        batch_size: Images at once.
        masks: Whether the detector predicts masks (MODEL.MASK_ON).
        data_root: The folder that holds the datasets; None: as `cellfeat.data.catalogue.data_root` says.
        classes: The detector's classes, see `class_names`.

    Returns:
        {"bbox": {"AP": ..., "AP50": ..., "AP75": ...}, "segm": {...}}, fractions of 1, None where the dataset has no
        reference cell; "segm" only where every reference cell has a mask and the detector predicts masks. With several
        classes, these are means over those that the dataset has, and "AP-<class>" is the AP of each.

    Raises:
        CellfeatError: The dataset has neither masks nor boxes, or an image cannot be read.
    """
    truth = reference_coco(dataset, classes, data_root)
    results: list[dict[str, Any]] = []
    images = truth["images"]
    for start in Progress(range(0, len(images), batch_size), desc=f"evaluate {dataset}", unit="batch", leave=False):
        batch = images[start : start + batch_size]
        instances = detector.detect(
            [read_rgb(image["file_name"], bits=image.get("bits")) for image in batch],
            [image.get("um_per_px") for image in batch],
        )
        for image, cells in zip(batch, instances, strict=True):
            results.extend(to_coco_results(cells, image["id"]))
    kinds = ["bbox", "segm"] if masks and has_masks(truth["annotations"], dataset) else ["bbox"]
    return {kind: average_precision(truth, results, kind) for kind in kinds}


def has_masks(annotations: Sequence[Mapping[str, Any]], dataset: str) -> bool:
    """Whether masks can be evaluated: a reference cell with a box alone would count as missed by every mask."""
    boxes = sum("segmentation" not in annotation for annotation in annotations)
    if 0 < boxes < len(annotations):
        log.warning(
            "%s: %d of %d reference cells have a box and no mask: evaluated by boxes alone",
            *(dataset, boxes, len(annotations)),
        )
    return boxes == 0


def to_coco_results(cells: CellInstances, image_id: int) -> list[dict[str, Any]]:
    """One image's cells in COCO's result format: boxes XYWH px, masks as compressed RLE."""
    results = []
    for i, (x0, y0, x1, y1) in enumerate(cells.boxes.astype(float).tolist()):
        result: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(cells.classes[i]) + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(cells.scores[i]),
        }
        if len(cells.masks) == len(cells):
            result["segmentation"] = rle.encode(np.asfortranarray(cells.masks[i], dtype=np.uint8))
        results.append(result)
    return results


def average_precision(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float | None]:
    """COCO's AP for "bbox" or "segm": 0 where nothing was found, None where there are no reference cells to find."""
    if not truth["annotations"]:
        return dict.fromkeys(METRICS, None)
    if not results:
        return dict.fromkeys(METRICS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        coco = COCO()
        coco.dataset = {"info": {}, **truth}
        coco.createIndex()
        # loadRes would take the area of a mask result's box from its mask; a copy each keeps the kinds apart
        evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in _of_kind(results, kind)]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores: dict[str, float | None] = {
        name: float(value) for name, value in zip(METRICS, evaluation.stats[:3], strict=True)
    }
    names = [category["name"] for category in truth["categories"]]
    return scores | (_by_class(evaluation, names) if len(names) > 1 else {})


def _by_class(evaluation: COCOeval, names: Sequence[str]) -> dict[str, float | None]:
    """ "AP-<class>" of each class, None where it has no reference cell; as Detectron2's COCOEvaluator has them."""
    found: dict[str, float | None] = {}
    for k, name in enumerate(names):
        precision = evaluation.eval["precision"][:, :, k, 0, -1]  # IoU, recall, class, all sizes, most detections
        measured = precision[precision > -1]
        found[f"AP-{name}"] = float(measured.mean()) if measured.size else None
    return found


def _of_kind(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    drop = "segmentation" if kind == "bbox" else "bbox"
    return [{key: value for key, value in result.items() if key != drop} for result in results]
