"""ROIAlign for CPUs as a weighted sum of feature vectors.

The operator of torchvision reads four neighbours a sample and channel, one by one and in one thread: with a thousand
proposals an image that takes longer than the network. But its grid of samples is a product of rows and columns, so that
the samples of a bin fall together into one weight for each of the few cells that the bin touches; and a weighted sum of
feature vectors, channels innermost, is what `embedding_bag` does fast and in all threads. Results are equal but for the
order of the sums. Where gradients are wanted, on a GPU, or with a fixed number of samples, torchvision's operator runs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align as torchvision_roi_align


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int = 0) -> Tensor:
    """Detectron2's ROIAlign (aligned, half-pixel centres).

    Args:
        features: (N, C, H, W); its sums are in float32 whatever its type. Fastest in channels_last.
        rois: (R, 5) float32: index of the image, then XYXY in px of the network's input.
        size: Bins a side.
        scale: Of `features` to the network's input: 1 / stride.
        sampling_ratio: Samples a side of each bin; 0: as many as it has cells, rounded up.

    Returns:
        (R, C, size, size) float32; zeros for a box without area.
    """
    out = rois.new_empty(len(rois), features.shape[1], size, size, dtype=torch.float32)
    return roi_align_into(out, torch.arange(len(rois), device=rois.device), features, rois, scale, sampling_ratio)


def roi_align_into(
    out: Tensor, rows: Tensor, features: Tensor, rois: Tensor, scale: float, sampling_ratio: int = 0
) -> Tensor:
    """As `roi_align`, into rows of a larger tensor: no copy of what takes 50 kB a box.

    Args:
        out: (N, C, size, size) float32, contiguous.
        rows: (R,) int64, the row of each box.
        features, rois, scale, sampling_ratio: As of `roi_align`.

    Returns:
        `out`.
    """
    size = out.shape[-1]
    if features.device.type != "cpu" or sampling_ratio > 0 or torch.is_grad_enabled():
        out[rows] = torchvision_roi_align(features.float(), rois, size, scale, sampling_ratio, aligned=True)
        return out
    flat = out.view(len(out), out.shape[1], size * size)
    channels, height, width = features.shape[1:]
    table = features.permute(0, 2, 3, 1).reshape(-1, channels).float()
    start, extent = rois[:, 1:3] * scale - 0.5, (rois[:, 3:] - rois[:, 1:3]) * scale  # (x, y) each
    samples = (extent / size).ceil()  # at most a cell apart: n of them touch n + 1 cells
    samples[~samples.isfinite() | (samples < 0)] = 0
    for nx, ny in samples.int().unique(dim=0).tolist():
        group = (samples == samples.new_tensor([nx, ny])).all(dim=1).nonzero()[:, 0]
        if nx == 0 or ny == 0:
            out[rows[group]] = 0
            continue
        columns, across = _cells(start[group, 0], extent[group, 0], size, nx, width)
        lines, down = _cells(start[group, 1], extent[group, 1], size, ny, height)
        lines = lines + rois[group, 0].long()[:, None, None] * height
        index = lines[:, :, None, :, None] * width + columns[:, None, :, None, :]  # (r, size, size, ny + 1, nx + 1)
        weight = down[:, :, None, :, None] * across[:, None, :, None, :]
        taps = (nx + 1) * (ny + 1)
        sums = F.embedding_bag(index.reshape(-1, taps), table, per_sample_weights=weight.reshape(-1, taps), mode="sum")
        flat[rows[group]] = sums.view(len(group), size * size, channels).transpose(1, 2)
    return out


def _cells(start: Tensor, extent: Tensor, size: int, samples: int, cells: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the cells that each bin touches and their weights, (r, size, samples + 1) each."""
    offset = torch.arange(size)[:, None] + (torch.arange(samples) + 0.5) / samples
    at = start[:, None, None] + offset * (extent / size)[:, None, None]  # (r, size, samples)
    inside = (at >= -1) & (at <= cells)
    at = at.clamp(0, cells - 1)
    cell = at[..., :1].floor() + torch.arange(samples + 1)
    shares = (1 - (at[..., None] - cell[..., None, :]).abs()).clamp(min=0) * inside[..., None]
    return cell.long().clamp(max=cells - 1), shares.sum(dim=2) / samples
