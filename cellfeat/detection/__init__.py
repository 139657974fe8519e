"""Finding cells: one protocol, two engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from fvcore.common.config import CfgNode

    from cellfeat.detection.structures import CellInstances

ENGINES = ("auto", "torchvision")
POOLS = ("mask", "box", "box_head")
PRECISIONS = ("fp32", "bf16")


class Detector(Protocol):
    """RGB uint8 images in, `CellInstances` out; nothing after it learns which engine ran."""

    name: str

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one cell's ROI features."""
        ...

    def detect(
        self, images: Sequence[np.ndarray], um_per_px: Sequence[float | None] | None = None
    ) -> list[CellInstances]:
        """Find the cells of each image (RGB uint8 (h, w, 3)); `um_per_px`: the images' scale, µm a pixel, if known."""
        ...


def build_detector(cfg: CfgNode, engine: str = "auto", pool: str = "mask", precision: str = "fp32") -> Detector:
    """Build the detector that a config describes.

    Args:
        cfg: From `cellfeat.config.load_config`.
        engine: "torchvision", or "auto": the best engine that can be imported.
        pool: ROI features to keep: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC_DIM, 1, 1).
        precision: "fp32" or "bf16".

    Raises:
        CellfeatError: An unknown engine, pool or precision; a config key or a checkpoint that the engine refuses.
    """
    from cellfeat.detection.torchvision_engine.engine import TorchvisionDetector
    from cellfeat.errors import CellfeatError

    for kind, value, known in (
        ("engine", engine, ENGINES),
        ("pool", pool, POOLS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise CellfeatError(f"{kind} {value!r}: choose from {', '.join(known)}")
    return TorchvisionDetector(cfg, pool=pool, precision=precision)
