"""Finding cells: one protocol, two engines.

cfg = load_config("wbc_mask_rcnn_R_18_FPN_tiny.yaml", ["MODEL.WEIGHTS", "model_final.pth"])
[cells] = build_detector(cfg).detect([rgb])
"""

from cellfeat.detection.build import build_detector, choose_engine, detectron2_problem
from cellfeat.detection.detector import ENGINES, POOLS, PRECISIONS, Detector

__all__ = ["ENGINES", "POOLS", "PRECISIONS", "Detector", "build_detector", "choose_engine", "detectron2_problem"]
