"""What a detector is, whichever engine runs it, and what can be chosen about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from fvcore.common.config import CfgNode

    from cellfeat.detection.structures import CellInstances

ENGINES = ("auto", "detectron2", "torchvision")
POOLS = ("mask", "box", "box_head")  # ROI features: (C, 14, 14), (C, 7, 7) or (FC_DIM, 1, 1)
PRECISIONS = ("fp32", "bf16")


class Detector(Protocol):
    """RGB uint8 images in, `CellInstances` out; nothing after it learns which engine ran."""

    name: str
    cfg: CfgNode
    """Its config. INPUT tells at each call how large images enter the network, and may be set."""
    max_detections: int
    """Cells of an image at most, the best scored: TEST.DETECTIONS_PER_IMAGE, and may be set."""

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one cell's ROI features."""
        ...

    def detect(
        self, images: Sequence[np.ndarray], um_per_px: Sequence[float | None] | None = None
    ) -> list[CellInstances]:
        """Find the cells of each image (RGB uint8 (h, w, 3)); `um_per_px`: the images' scale, µm a pixel, if known."""
        ...
