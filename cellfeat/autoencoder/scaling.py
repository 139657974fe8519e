"""Features brought to [-1, 1] for the network: each cell by its own range, or each channel by its own statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cellfeat.autoencoder.measured_once import measured_once

if TYPE_CHECKING:
    from cellfeat.store import Store

Scaling = Literal["cell", "channel", "domain"]

RANGE = 4.0
"""Standard deviations that [-1, 1] spans on either side; what lies beyond is cut off."""


def scale_features(features: Tensor) -> Tensor:
    """Scale each cell's features by its own minimum and maximum to [-1, 1].

    Args:
        features: (n, C, H, W), any float type.

    Returns:
        (n, C, H, W) float32; a cell whose features are all equal becomes all 0.
    """
    features = features.float()
    low = features.amin(dim=(1, 2, 3), keepdim=True)
    high = features.amax(dim=(1, 2, 3), keepdim=True)
    span = high - low
    scale = torch.where(span > torch.finfo(torch.float32).tiny, 2 / span, 0.0)
    return (features - (low + high) / 2).mul_(scale)


class CellScaling(nn.Module):
    """`scale_features`, the paper's: one outlier of a cell sets its range, and every cell loses its absolute level."""

    def forward(self, features: Tensor, group: Tensor) -> Tensor:
        """Scale (n, C, H, W) to [-1, 1]; `group` is not used."""
        return scale_features(features)


class ChannelScaling(nn.Module):
    """(x − μ) / 4σ, cut off at ±1, with μ and σ of each channel over the cells of a group.

    With one group for all cells it keeps what tells laboratories apart; with one for each domain the first two moments
    of the encoder's input are the same for all (the idea of Li et al., "Revisiting batch normalization for practical
    domain adaptation", 2016, at the input). The statistics are buffers and travel with the weights.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(groups, channels))
        self.register_buffer("sd", torch.ones(groups, channels))

    def forward(self, features: Tensor, group: Tensor) -> Tensor:
        """Scale (n, C, H, W), any float type, to float32 in [-1, 1]; `group` (n,) int64 counts for several groups."""
        place = group if len(self.mean) > 1 else torch.zeros_like(group)
        mean, sd = self.mean[place][:, :, None, None], self.sd[place][:, :, None, None]
        return ((features.float() - mean) / (RANGE * sd)).clamp_(-1, 1)

    def measure(self, store: Store, rows: np.ndarray, group: np.ndarray) -> None:
        """Take the statistics from the cells `rows` of a store; `group` (len(rows),) numbers the group of each."""

        def measured() -> dict[str, Tensor]:
            mean, sd = self.mean.clone(), self.sd.clone()
            for k in range(len(mean)):
                members = rows[group == k] if len(mean) > 1 else rows
                if len(members):
                    mean[k], sd[k] = channel_statistics(store, members)
            return {"mean": mean, "sd": sd}

        settings = {"what": "channels", "groups": len(self.mean), "group": group.tolist()}
        found = measured_once(store, rows, settings, measured)
        self.mean.copy_(found["mean"])
        self.sd.copy_(found["sd"])

    def extend(self, mean: Tensor, sd: Tensor) -> None:
        """Add a group with the statistics (C,) and (C,)."""
        self.mean = torch.cat([self.mean, mean.to(self.mean)[None]])
        self.sd = torch.cat([self.sd, sd.to(self.sd)[None]])


def channel_statistics(store: Store, rows: np.ndarray, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each feature channel over the cells `rows` and all places of their maps.

    A channel that never changes gets the standard deviation 1.
    """
    total = squares = torch.zeros(())
    for start in range(0, len(rows), batch_size):
        x = torch.from_numpy(store.read("features", rows[start : start + batch_size])).double()
        total, squares = total + x.sum((0, 2, 3)), squares + x.square().sum((0, 2, 3))
    n = len(rows) * np.prod(store.feature_shape[1:])
    mean = total / n
    sd = (squares / n - mean.square()).clamp_min(0).sqrt()
    return mean.float(), torch.where(sd > 1e-6 * mean.abs().clamp_min(1e-6), sd, 1.0).float()
