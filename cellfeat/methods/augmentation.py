"""Random changes of crops that leave the cell what it is, put together from torchvision.transforms.v2.

Each takes one image (3, S, S) uint8 and returns one; random numbers come from torch's generator. What torchvision lacks
is put together from OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
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


class BoxBlur(nn.Module):
    """Average over k × k pixels, k a random odd number, the border mirrored (as albumentations' Blur).

    Args:
        limit: Smallest and largest k.
    """

    def __init__(self, limit: tuple[int, int]) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, image: Tensor) -> Tensor:
        """Blurred image (3, S, S) uint8."""
        sides = range(self.limit[0] | 1, self.limit[1] + 1, 2)
        side = sides[int(torch.randint(len(sides), ()))]
        return _to_tensor(cv2.blur(_to_array(image), (side, side)))


class Haze(nn.Module):
    """Discs of white over the image, dense in its middle, then a blur (as albumentations' RandomFog).

    Args:
        coefficient: Smallest and largest strength; it sets the discs' size and, with `alpha`, their opacity.
        alpha: Opacity of a disc at strength 1.
    """

    def __init__(self, coefficient: tuple[float, float], alpha: float) -> None:
        super().__init__()
        self.coefficient, self.alpha = coefficient, alpha

    def forward(self, image: Tensor) -> Tensor:
        """Fogged image (3, S, S) uint8."""
        low, high = self.coefficient
        strength = low + (high - low) * float(torch.rand(()))
        height, width = image.shape[-2:]
        side = max(
            int(width // 3 * strength), 10
        )  # a disc's diameter, px; constants here and below: albumentations 1.3
        discs = np.zeros((height, width), np.uint16)
        x, y, ring = width // 2 - 2 * side, height // 2 - side, 1
        while x > -side or y > -side:  # ever larger rectangles around the middle, ever more discs
            for _ in range(side // 10 * ring):
                left = int(torch.randint(x, max(width - x - side, x) + 1, ()))
                top = int(torch.randint(y, max(height - y - side, y) + 1, ()))
                one = np.zeros_like(discs)
                cv2.circle(one, (left + side // 2, top + side // 2), side // 2, 1, -1)
                discs += one
            x -= 3 * side * width // (width + height)
            y -= 3 * side * height // (width + height)
            ring += 1
        clear = (1 - self.alpha * strength) ** discs[..., None].astype(np.float32)
        fogged = (255 - (255 - _to_array(image).astype(np.float32)) * clear).round().astype(np.uint8)
        blur = max(side // 10, 1)
        return _to_tensor(cv2.blur(fogged, (blur, blur)))


class MirroredRotation(nn.Module):
    """Rotate by a random angle; what comes in from outside is the mirrored image (OpenCV's BORDER_REFLECT_101).

    Args:
        limit: Largest angle to either side, degrees.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, image: Tensor) -> Tensor:
        """Rotated image (3, S, S) uint8."""
        angle = self.limit * (2 * float(torch.rand(())) - 1)
        height, width = image.shape[-2:]
        matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, 1.0)
        array, mirrored = _to_array(image), cv2.BORDER_REFLECT_101
        rotated = cv2.warpAffine(array, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=mirrored)
        return _to_tensor(np.asarray(rotated))


class Flip(nn.Module):
    """Mirror left to right, top to bottom, or both, each as often (as albumentations' Flip)."""

    def forward(self, image: Tensor) -> Tensor:
        """Mirrored image (3, S, S) uint8."""
        return image.flip([[1], [2], [1, 2]][int(torch.randint(3, ()))])


class RandomScale(nn.Module):
    """Resize by a random factor, bilinear.

    Args:
        limit: Largest change of the factor 1.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, image: Tensor) -> Tensor:
        """Image (3, s·S, s·S) uint8."""
        factor = 1 + self.limit * (2 * float(torch.rand(())) - 1)
        return v2.functional.resize(image, [max(1, round(side * factor)) for side in image.shape[-2:]], antialias=False)


FRAME = 360  # px, height of an image of Acevedo-20, whose pixels the article's sizes count


def haho(size: int = 224) -> Augment:
    """The HAHO challenge article's ten changes, in its order, with its probabilities and ranges.

    Its sizes are pixels of whole images of 360 px, so the crop of a cell is brought to 360 px first. Its last step,
    the z-score of each data set's channels, is the data set's normalisation (`cellfeat.methods.crops`).

    Args:
        size: Side of the images that come out, px.
    """

    def sometimes(change: nn.Module) -> v2.Transform:
        return v2.RandomApply([change], p=0.5)

    return v2.Compose(
        [
            v2.Resize(FRAME, antialias=True),
            v2.CenterCrop(345),
            v2.RandomCrop(224),
            sometimes(BoxBlur((3, 7))),
            sometimes(Haze((0.3, 1.0), alpha=0.08)),
            sometimes(
                v2.ColorJitter(brightness=(0.7, 1.3), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(0.0, 0.0))
            ),
            sometimes(Flip()),
            sometimes(MirroredRotation(180)),
            sometimes(RandomScale(0.2)),
            v2.Resize([size, size], antialias=False),
        ]
    )


def _to_array(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def domain_adaptation(size: int) -> Augment:
    """Milder than `haho`, for crops that hold little beside the cell: crop, blur, fog, colour, flips, rotation, scale.

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
