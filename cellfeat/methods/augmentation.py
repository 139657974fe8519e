"""Random changes of crops that leave the cell what it is, put together from torchvision.transforms.v2.

Each takes one image (3, S, S) uint8 and returns one of the same size; chance comes from torch's generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import InterpolationMode, v2

Augment = Callable[[Tensor], Tensor]


class Fog(nn.Module):
    """Lay uneven white over the image, as an unfocused condenser does.

    Args:
        thickness: The most that white may weigh at any place, 0 to 1.
        patches: The fog is smooth noise of this many nodes a side.
    """

    def __init__(self, thickness: float = 0.4, patches: int = 4) -> None:
        super().__init__()
        self.thickness, self.patches = thickness, patches

    def forward(self, image: Tensor) -> Tensor:
        """Fogged image (3, S, S) uint8."""
        coarse = torch.rand(1, 1, self.patches, self.patches)
        smooth = functional.interpolate(coarse, image.shape[-2:], mode="bicubic", align_corners=False)[0].clamp(0, 1)
        white = smooth * self.thickness * torch.rand(())
        return (image + (255 - image.float()) * white).round().to(torch.uint8)


def domain_adaptation(size: int) -> Augment:
    """Of the HAHO challenge article: centre or random crop, blur, fog, colour jitter, flips, rotation and scale.

    Args:
        size: Side of the images, px; a cut-out of 7/8 of it is enlarged to it again.
    """
    cut = max(1, round(size * 7 / 8))
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            _affine(degrees=180, scale=(0.8, 1.2)),
            v2.RandomChoice([v2.CenterCrop(cut), v2.RandomCrop(cut)]),
            v2.Resize(size, antialias=True),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 2.0))], p=0.2),
            v2.RandomApply([Fog()], p=0.2),
            v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)], p=0.8),
        ]
    )


def transfer_learning() -> Augment:
    """Of the Leukopy article: rotation, flips and shear."""
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), _affine(degrees=180, shear=15)])


def _affine(**limits: object) -> v2.Transform:
    """An affine change whose corners are grey rather than black, which would be a shape of its own."""
    return v2.RandomAffine(**limits, interpolation=InterpolationMode.BILINEAR, fill=200)  # type: ignore[arg-type]
