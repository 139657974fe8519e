"""Masks from the network's 28×28 grid into the original image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def paste_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Sample each mask at the centres of the pixels that its box covers, as Detectron2 does.

    Args:
        probabilities: (n, M, M) float.
        boxes: (n, 4) XYXY, px of the image.
        size: (height, width) of the image, px.

    Returns:
        (n, height, width) bool.
    """
    height, width = size
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    for mask, probability, box in zip(masks, probabilities.float(), boxes, strict=True):
        x0, y0 = (box[:2].floor().int() - 1).clamp(min=0).tolist()
        x1, y1 = min(int(box[2].ceil()) + 1, width), min(int(box[3].ceil()) + 1, height)
        x = (torch.arange(x0, x1, device=box.device) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(y0, y1, device=box.device) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)[None]
        sampled = F.grid_sample(probability[None, None], grid, align_corners=False)[0, 0]
        mask[y0:y1, x0:x1] = sampled >= threshold
    return masks
