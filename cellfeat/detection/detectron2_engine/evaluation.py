"""Detectron2's COCOEvaluator on the catalogue's datasets, its figures in cellfeat's terms."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.evaluation import COCOEvaluator
from torch.utils.data import DataLoader

from cellfeat.data.images import read_rgb
from cellfeat.detection.coco_evaluation import METRICS, Scores, has_masks
from cellfeat.detection.detectron2_engine.datasets import reference_cells
from cellfeat.detection.network_input import network_inputs


def coco_evaluator(cfg: CfgNode, name: str) -> COCOEvaluator:
    """The evaluator of a registered dataset: boxes, and masks where dataset and model have them.

    It works in OUTPUT_DIR/inference/NAME and leaves there what was predicted, as coco_instances_results.json.
    """
    masks = cfg.MODEL.MASK_ON and has_masks(reference_cells(name), name)
    return COCOEvaluator(
        name,
        tasks=("bbox", "segm") if masks else ("bbox",),
        output_dir=str(Path(cfg.OUTPUT_DIR) / "inference" / name),
        use_fast_impl=False,  # needs Detectron2's compiled part, and is not the official figure
        allow_cached_coco=False,  # the dataset may have changed since
    )


def test_loader(cfg: CfgNode, name: str) -> DataLoader[Any]:
    """This rank's images of a registered dataset, one at a time, as the network sees them at test time."""
    return build_detection_test_loader(
        DatasetCatalog.get(name), mapper=partial(_to_input, cfg), num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def to_scores(results: dict[str, dict[str, float]]) -> Scores:
    """COCOEvaluator's per cents as fractions of 1; its NaN, nothing found, as 0."""
    scores: Scores = {}
    for kind, values in results.items():
        scores[kind] = {metric: values[metric] / 100 if values[metric] > 0 else 0.0 for metric in METRICS}
        for name, value in values.items():
            if name.startswith("AP-"):  # of a class; NaN where it has no reference cell
                scores[kind][name] = None if math.isnan(value) else value / 100
    return scores


def _to_input(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    rgb = read_rgb(record["file_name"], bits=record["bits"])
    [image] = network_inputs(cfg, [rgb], [record["um_per_px"]])
    return {"image": image} | {key: record[key] for key in ("image_id", "height", "width")}
