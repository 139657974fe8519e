"""A cell's thumbnail: its crop at the size of the feature map, a picture to learn from at next to no cost.

The image decoder is nine tenths of the arithmetic, so that on a CPU few cells of a batch are drawn, and the latent
hardly learns from them what a cell looks like. A thumbnail has as many pixels as the feature map has places: one
1 × 1 convolution of the reconstructed features predicts it, for every cell of every batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from cellfeat.autoencoder.data import read_crops
from cellfeat.autoencoder.losses import mse
from cellfeat.autoencoder.measured_once import measured_once
from cellfeat.autoencoder.network import FEATURE_SHAPE
from cellfeat.autoencoder.objectives.base import Objective, Step
from cellfeat.core.progress import Progress

if TYPE_CHECKING:
    from cellfeat.store import Store

SMALLEST_VARIANCE = 1e-12  # of all thumbnails; equal ones, as of a single cell, have none


class Thumbnail(Objective):
    """Mean squared error of the predicted thumbnails over their variance."""

    name: ClassVar[str] = "thumbnail_loss"

    def prepare(self, store: Store, rows: np.ndarray, group: np.ndarray, network: Any) -> None:
        """Measure the thumbnails of the training cells."""

        def measured() -> dict[str, Tensor]:
            return {"thumbnails": measure_thumbnails(store, rows, self.config.masked_images)}

        settings = {"what": "thumbnails", "masked": self.config.masked_images}
        self._thumbnails = measured_once(store, rows, settings, measured)["thumbnails"]
        self._variance = max(float(self._thumbnails.square().mean()), SMALLEST_VARIANCE)

    def weight(self, epoch: int) -> float:
        """The setting `thumbnail_weight`."""
        return self.config.thumbnail_weight

    def loss(self, step: Step) -> Tensor:
        """Mean over the batch."""
        thumbnails = step.network.decode_thumbnails(step.features_hat)
        return mse(thumbnails, self._thumbnails[step.indices].to(step.h)) / self._variance


def measure_thumbnails(store: Store, rows: np.ndarray, masked: bool, batch_size: int = 256) -> Tensor:
    """Thumbnails of the cells `rows`, less their mean picture.

    Args:
        masked: White outside the cell's mask, as the image target is.

    Returns:
        (n, 3, 14, 14) float32 RGB of [0, 1], less its mean over the cells.
    """
    size = FEATURE_SHAPE[:0:-1]
    small = []
    with Progress(total=len(rows), desc="thumbnails", unit="cell") as bar:
        for start in range(0, len(rows), batch_size):
            crops = read_crops(store, rows[start : start + batch_size], masked)
            small += [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
            bar.update(len(crops))
    thumbnails = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255
    return thumbnails - thumbnails.mean(0)
