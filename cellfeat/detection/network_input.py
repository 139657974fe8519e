"""From RGB images to what both engines feed the network: channel order, size, and which images share a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode

from cellfeat.detection.resize import network_size, resize_image
from cellfeat.errors import CellfeatError

SIZE_DIVISIBILITY = 32  # px: the network's input is padded to multiples of the FPN's coarsest stride


def to_network(image: np.ndarray, size: tuple[int, int], channel_order: str) -> torch.Tensor:
    """RGB uint8 (h, w, 3) → (3, *size) uint8 in the config's channel order (INPUT.FORMAT)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise CellfeatError(f"an image must be RGB uint8 (h, w, 3), not {image.dtype} {image.shape}")
    resized = resize_image(image, size)
    if channel_order == "BGR":
        resized = resized[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def network_inputs(
    cfg: CfgNode, images: Sequence[np.ndarray], um_per_px: Sequence[float | None] | None
) -> list[torch.Tensor]:
    """`to_network` of each image at the size that the config's test settings give it; see `Detector.detect`."""
    scales = um_per_px or [None] * len(images)
    return [
        to_network(image, network_size(cfg, image.shape[:2], scale), cfg.INPUT.FORMAT)
        for image, scale in zip(images, scales, strict=True)
    ]


def same_padding(inputs: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices grouped by padded size: padding to a larger neighbour would change a GroupNorm's statistics."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, image in enumerate(inputs):
        height, width = image.shape[-2:]
        groups.setdefault((-(-height // SIZE_DIVISIBILITY), -(-width // SIZE_DIVISIBILITY)), []).append(i)
    return list(groups.values())
