"""COCO average precision of boxes and masks, by pycocotools: the figures of Detectron2's COCOEvaluator."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.detection.detector import Detector
from cellfeat.detection.structures import CellInstances

METRICS = ("AP", "AP50", "AP75")  # mean over IoU 0.50:0.05:0.95, at 0.50, at 0.75
Scores = dict[str, dict[str, float]]


def evaluate_dataset(detector: Detector, dataset: str, batch_size: int = 4) -> Scores:
    """Average precision of `detector` on a dataset of the catalogue.

    Returns:
        {"bbox": {"AP": ..., "AP50": ..., "AP75": ...}, "segm": {...}}, fractions of 1; "segm" only where the
        dataset has masks and the detector predicts them.

    Raises:
        CellfeatError: The dataset has neither masks nor boxes, or an image cannot be read.
    """
    truth = open_dataset(dataset).coco()
    results: list[dict[str, Any]] = []
    images = truth["images"]
    for start in tqdm(range(0, len(images), batch_size), desc=f"evaluate {dataset}", unit="batch", leave=False):
        batch = images[start : start + batch_size]
        instances = detector.detect(
            [read_rgb(image["file_name"]) for image in batch], [image.get("um_per_px") for image in batch]
        )
        for image, cells in zip(batch, instances, strict=True):
            results.extend(to_coco_results(cells, image["id"]))
    has_masks = any("segmentation" in annotation for annotation in truth["annotations"])
    kinds = ["bbox", "segm"] if has_masks and all("segmentation" in result for result in results) else ["bbox"]
    return {kind: average_precision(truth, results, kind) for kind in kinds}


def to_coco_results(cells: CellInstances, image_id: int) -> list[dict[str, Any]]:
    """One image's cells in COCO's result format: boxes XYWH px, masks as compressed RLE."""
    results = []
    for i, (x0, y0, x1, y1) in enumerate(cells.boxes.astype(float).tolist()):
        result: dict[str, Any] = {
            "image_id": image_id,
            "category_id": 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(cells.scores[i]),
        }
        if len(cells.masks) == len(cells):
            result["segmentation"] = rle.encode(np.asfortranarray(cells.masks[i], dtype=np.uint8))
        results.append(result)
    return results


def average_precision(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """COCO's AP for "bbox" or "segm"; 0 where nothing was found."""
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
    return {name: max(0.0, float(value)) for name, value in zip(METRICS, evaluation.stats[:3], strict=True)}


def _of_kind(results: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    drop = "segmentation" if kind == "bbox" else "bbox"
    return [{key: value for key, value in result.items() if key != drop} for result in results]
