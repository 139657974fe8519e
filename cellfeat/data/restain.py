"""Photographs as another laboratory might have made them: colours changed in optical density, and out of focus.

In optical density stain adds up (Beer and Lambert): a random mixture of the channels is another dye or camera, a gain
is more or less of it, an offset another lamp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MIXTURE_SD = 0.12  # of each entry of the 3 × 3 mixing matrix around the identity
CHANNEL_GAIN, OVERALL_GAIN = (0.6, 1.5), (0.7, 1.4)
OFFSET = 0.06  # of the optical density of a channel, at most; a lamp 6 % brighter or darker
GREY, BLUR = 0.15, 0.30  # shares of the images
BLUR_SIGMA = (0.4, 1.5)  # px


def restained(images: Tensor, generator: torch.Generator) -> Tensor:
    """Channels mixed, scaled and shifted in optical density; some of the images become grey.

    Args:
        images: (n, 3, h, w) float32 RGB in [0, 1]; so is what is returned.
        generator: All randomness comes from it.
    """
    n = len(images)
    density = -torch.log((images * 255 + 1) / 256)
    mixture = torch.eye(3) + MIXTURE_SD * torch.randn((n, 3, 3), generator=generator)
    gain = _log_uniform((n, 3, 1), CHANNEL_GAIN, generator) * _log_uniform((n, 1, 1), OVERALL_GAIN, generator)
    grey = (uniform(n, (0, 1), generator) < GREY)[:, None, None]
    mixture = torch.where(grey, torch.full((3, 3), 1 / 3), mixture * gain)
    offset = OFFSET * (2 * torch.rand((n, 3, 1), generator=generator) - 1)
    offset = torch.where(grey, offset[:, :1], offset)
    mixed = torch.baddbmm(offset, mixture, density.flatten(2)).view_as(images)
    return torch.exp(-mixed).clamp(0, 1)


def blurred(images: Tensor, generator: torch.Generator, share: float = BLUR) -> Tensor:
    """A `share` of the images (n, 3, h, w) out of focus, each by a Gaussian of its own."""
    chosen = (uniform(len(images), (0, 1), generator) < share).nonzero()[:, 0]
    sigma = uniform(len(chosen), BLUR_SIGMA, generator)[:, None]
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


def uniform(n: int, limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    """(n,) float32 between two limits."""
    low, high = limits
    return low + (high - low) * torch.rand(n, generator=generator)


def _log_uniform(shape: tuple[int, ...], limits: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = map(math.log, limits)
    return torch.exp(low + (high - low) * torch.rand(shape, generator=generator))
