"""How large the network sees an image: by its stated physical scale, else by Detectron2's rule."""

from __future__ import annotations

import numpy as np
from fvcore.common.config import CfgNode
from PIL import Image

Size = tuple[int, int]  # (height, width), px


def shortest_edge_size(size: Size, short_edge: int, max_size: int) -> Size:
    """Detectron2's ResizeShortestEdge: short edge to `short_edge` unless the long one would pass `max_size`."""
    scale = short_edge / min(size)
    if max(size) * scale > max_size:
        scale = max_size / max(size)
    return _rounded(size, scale)


def physical_size(size: Size, um_per_px: float, target_um_per_px: float, max_size: int) -> Size:
    """Resample from `um_per_px` to `target_um_per_px` (both µm a pixel) unless the long edge would pass `max_size`."""
    return _rounded(size, min(um_per_px / target_um_per_px, max_size / max(size)))


def network_size(cfg: CfgNode, size: Size, um_per_px: float | None) -> Size:
    """The size at which an image of `size` enters the network at test time."""
    if cfg.INPUT.UM_PER_PX and um_per_px:
        return physical_size(size, um_per_px, cfg.INPUT.UM_PER_PX, cfg.INPUT.MAX_SIZE_TEST)
    return shortest_edge_size(size, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize uint8 (h, w, 3) to `size` bilinearly by Pillow, as Detectron2 does (antialiased when shrinking)."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def _rounded(size: Size, scale: float) -> Size:
    """Detectron2's rounding: the edge that reaches the bound is exact, the other is rounded half up."""
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width
