"""What a detector gives for one image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from fvcore.common.config import CfgNode


@dataclass(frozen=True)
class CellInstances:
    """The cells of one image, by descending score.

    Attributes:
        image_size: (height, width) of the original image, px.
        boxes: (n, 4) float32, XYXY in px of the original image.
        scores: (n,) float32 in 0 to 1.
        masks: (n, height, width) bool in the original image's frame; (0, height, width) without a mask head.
        roi_features: (n, C, H, W) float32, pooled from the FPN at the final boxes, in the network's frame.
        classes: (n,) int64, positions in the detector's classes; all 0 for a detector of one class.
    """

    image_size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray
    roi_features: np.ndarray
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.boxes):
            object.__setattr__(self, "classes", np.zeros(len(self.boxes), np.int64))

    def __len__(self) -> int:
        return len(self.boxes)


def feature_shape(cfg: CfgNode, pool: str) -> tuple[int, int, int]:
    """(C, H, W) of one cell's ROI features: "mask" and "box" as pooled for these heads, "box_head" (FC_DIM, 1, 1)."""
    if pool == "box_head":
        return cfg.MODEL.ROI_BOX_HEAD.FC_DIM, 1, 1
    side = {"mask": cfg.MODEL.ROI_MASK_HEAD, "box": cfg.MODEL.ROI_BOX_HEAD}[pool].POOLER_RESOLUTION
    return cfg.MODEL.FPN.OUT_CHANNELS, side, side
