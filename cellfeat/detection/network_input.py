"""From RGB images to what both engines feed the network: channel order, size, and which images share a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode

from cellfeat.detection.resize import network_size, resize_image
from cellfeat.errors import CellfeatError

SIZE_DIVISIBILITY = 32  # px: the network's input is padded to multiples of the FPN's coarsest stride
GROUPS = 32  # of every GroupNorm with so many channels or more


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
    sizes = [network_size(cfg, image.shape[:2], scale) for image, scale in zip(images, scales, strict=True)]
    for size in sizes:
        check_maps(cfg, size)
    return [to_network(image, size, cfg.INPUT.FORMAT) for image, size in zip(images, sizes, strict=True)]


def check_maps(cfg: CfgNode, size: tuple[int, int]) -> None:
    """Refuse an input of this height and width (px) if GroupNorm would see single values, which it makes 0.

    PyTorch refuses it in a batch of one image only: its cells would depend on the images beside it.

    Raises:
        CellfeatError: The FPN has one channel a group, and its coarsest map one value a channel.
    """
    one_channel_groups = cfg.MODEL.FPN.NORM == "GN" and cfg.MODEL.FPN.OUT_CHANNELS <= GROUPS
    if one_channel_groups and max(size) <= SIZE_DIVISIBILITY:
        raise CellfeatError(
            f"MODEL.FPN.NORM GN with MODEL.FPN.OUT_CHANNELS {cfg.MODEL.FPN.OUT_CHANNELS}: an image of "
            f"{size[1]} × {size[0]} px leaves it one value to normalise",
            f"let INPUT.MIN_SIZE_TEST and MIN_SIZE_TRAIN make images larger than {SIZE_DIVISIBILITY} px, or give the "
            f"FPN more than {GROUPS} channels",
        )


def same_padding(inputs: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices grouped by padded size: padding to a larger neighbour would change a GroupNorm's statistics."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, image in enumerate(inputs):
        height, width = image.shape[-2:]
        groups.setdefault((-(-height // SIZE_DIVISIBILITY), -(-width // SIZE_DIVISIBILITY)), []).append(i)
    return list(groups.values())
