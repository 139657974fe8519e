"""The reconstruction of the crops: 1 − SSIM(r̂, r)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cellfeat.autoencoder.losses import ssim
from cellfeat.autoencoder.objectives.base import Objective, Step


class Image(Objective):
    """1 − structural similarity of the crops that the batch's `image_index` names (equation 3 of AE-CFE)."""

    name: ClassVar[str] = "image_loss"

    def loss(self, step: Step) -> Tensor:
        """Mean over the chosen crops."""
        image_hat = step.network.decode_images(step.features_hat[step.batch.image_index])
        return 1 - ssim(image_hat, step.batch.crops.permute(0, 3, 1, 2).float() / 255)
