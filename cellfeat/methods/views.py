"""Random views of one cell: turned, moved, and stained by another laboratory. What all of them share is the cell.

Colours are changed in optical density, where stain adds up (Beer and Lambert): a random mixture of the channels is
another dye or camera, a gain is more or less of it, an offset another lamp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SCALE = (0.6, 1.05)  # side of the view as a share of the crop's side
SHIFT = 0.08  # of the view's centre, at most, as a share of the crop's side
MIXTURE_SD = 0.12  # of each entry of the 3 × 3 mixing matrix around the identity
CHANNEL_GAIN, OVERALL_GAIN = (0.6, 1.5), (0.7, 1.4)
OFFSET = 0.06  # of the optical density of a channel, at most; a lamp 6 % brighter or darker
GREY, BLUR = 0.15, 0.30  # shares of the views
BLUR_SIGMA = (0.4, 1.5)  # px of the view


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
    angle = _uniform(n, (0, 2 * math.pi), generator)
    scale = _uniform(n, SCALE, generator)
    mirror = torch.where(_uniform(n, (0, 1), generator) < 0.5, 1.0, -1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = 2 * SHIFT * (2 * torch.rand((n, 2), generator=generator) - 1)  # in grid_sample's units, from -1 to 1
    matrix = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1
    )
    grid = functional.affine_grid(matrix, [n, 3, size, size], align_corners=False)
    return functional.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


def restained(images: Tensor, generator: torch.Generator) -> Tensor:
    """Channels mixed, scaled and shifted in optical density; some of the images become grey."""
    n = len(images)
    density = -torch.log((images * 255 + 1) / 256)
    mixture = torch.eye(3) + MIXTURE_SD * torch.randn((n, 3, 3), generator=generator)
    gain = _log_uniform((n, 3, 1), CHANNEL_GAIN, generator) * _log_uniform((n, 1, 1), OVERALL_GAIN, generator)
    grey = (_uniform(n, (0, 1), generator) < GREY)[:, None, None]
    mixture = torch.where(grey, torch.full((3, 3), 1 / 3), mixture * gain)
    offset = OFFSET * (2 * torch.rand((n, 3, 1), generator=generator) - 1)
    offset = torch.where(grey, offset[:, :1], offset)
    mixed = torch.baddbmm(offset, mixture, density.flatten(2)).view_as(images)
    return torch.exp(-mixed).clamp(0, 1)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the images out of focus, each by a Gaussian of its own."""
    chosen = (_uniform(len(images), (0, 1), generator) < BLUR).nonzero()[:, 0]
    sigma = _uniform(len(chosen), BLUR_SIGMA, generator)[:, None]
    if not len(chosen):
        return images
    radius = math.ceil(2 * BLUR_SIGMA[1])
    kernel = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    groups = len(kernel)
    picked = functional.pad(images[chosen], [radius] * 4, mode="replicate").flatten(0, 1)[None]
    across = functional.conv2d(picked, kernel[:, :, None], groups=groups)
    both = functional.conv2d(across, kernel[:, :, :, None], groups=groups)
    return images.index_copy(0, chosen, both.view(len(chosen), 3, *images.shape[2:]))


def _uniform(n: int, limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(n, generator=generator)


def _log_uniform(shape: tuple[int, ...], limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = map(math.log, limits)
    return torch.exp(low + (high - low) * torch.rand(shape, generator=generator))
