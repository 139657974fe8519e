"""Random views of one cell: turned, moved, and stained by another laboratory. What all of them share is the cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from cellfeat.data.restain import blurred, restained, uniform

SCALE = (0.6, 1.05)  # side of the view as a share of the crop's side
SHIFT = 0.08  # of the view's centre, at most, as a share of the crop's side


def random_views(crops: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """One random view of each crop.

    Args:
        crops: (n, 3, S, S) float32 RGB in [0, 1].
        size: Side of the views, px.
        generator: All randomness comes from it.

    Returns:
        (n, 3, size, size) float32 RGB in [0, 1].
    """
    return blurred(restained(moved(crops, size, generator), generator), generator)


def moved(crops: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Turned by any angle, mirrored or not, at another scale and a little off centre; borders are repeated."""
    n = len(crops)
    angle = uniform(n, (0, 2 * math.pi), generator)
    scale = uniform(n, SCALE, generator)
    mirror = torch.where(uniform(n, (0, 1), generator) < 0.5, 1.0, -1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = 2 * SHIFT * (2 * torch.rand((n, 2), generator=generator) - 1)  # in grid_sample's units, from -1 to 1
    matrix = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1
    )
    grid = functional.affine_grid(matrix, [n, 3, size, size], align_corners=False)
    return functional.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)
