"""The reconstruction of the features: MSE(ĥ, h)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cellfeat.autoencoder.losses import mse
from cellfeat.autoencoder.objectives.base import Objective, Step


class Features(Objective):
    """Mean squared error of the reconstructed features (equation 3 of AE-CFE)."""

    name: ClassVar[str] = "feature_loss"

    def loss(self, step: Step) -> Tensor:
        """Mean over all elements of the batch."""
        return mse(step.features_hat, step.h)
