"""A cell's profile: numbers that do not change when the cell is turned or moved, as a target for the latent.

A reconstruction loss spends the latent on where things lie, since that is most of a map's variance, and a blood cell
lies any way it likes. The profile says what a cell consists of: its measured colours, shapes and textures
(`cellfeat.data.measurements`), and its features averaged over its mask. Predicting it from z needs no label. With
statistics taken per domain it asks for a cell's place among those of its own laboratory, not for stain and camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cellfeat.autoencoder.network import FEATURE_SHAPE
from cellfeat.core.progress import Progress
from cellfeat.data.measurements import measure_cell, measurement_names

if TYPE_CHECKING:
    from cellfeat.autoencoder.scaling import CellScaling, ChannelScaling
    from cellfeat.store import Store

MEASURED = len(measurement_names("px"))
PROFILE_SIZE = MEASURED + 2 * FEATURE_SHAPE[0]
MEASURED_SHARE = 0.8
"""Of the profile loss; the features have the rest."""
RIDGE = 30.0


def measured(crops: np.ndarray, masks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The measurements of cells.

    Args:
        crops: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8 0/1 in the crop's frame; of an empty one the whole crop is taken.
        boxes: (n, 4) XYXY, px of the image. Their longer side gives the scale, but for a constant factor.

    Returns:
        (n, 97) float32, see `cellfeat.data.measurements`.
    """
    pixels = (boxes[:, 2:] - boxes[:, :2]).max(1) / crops.shape[1]
    return np.stack([measure_cell(*cell) for cell in zip(crops, masks, pixels)])


def masked_features(features: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of each channel, weighted by the mask.

    Args:
        features: (n, C, H, W) of the cell's box.
        masks: As above; its bounding box stands for the cell's box.

    Returns:
        (n, 2·C) float32, the means first.
    """
    rows = []
    for feature, mask in zip(features.astype(np.float32), _filled(masks)):
        x, y, width, height = cv2.boundingRect(mask)
        inside = mask[y : y + height, x : x + width].astype(np.float32)
        weight = cv2.resize(inside, feature.shape[:0:-1], interpolation=cv2.INTER_AREA)
        weight /= weight.sum()
        mean = (feature * weight).sum((1, 2))
        variance = (np.square(feature - mean[:, None, None]) * weight).sum((1, 2))
        rows.append(np.concatenate([mean, np.sqrt(variance)]))
    return np.stack(rows)


def _filled(masks: np.ndarray) -> np.ndarray:
    return np.where(masks.any(axis=(1, 2), keepdims=True), masks, np.uint8(1))


def pooled_features(h: Tensor) -> Tensor:
    """Mean and standard deviation of each channel over its map: (n, C, H, W) to (n, 2·C) float32."""
    h = h.float()
    return torch.cat([h.mean((2, 3)), h.std((2, 3), correction=0)], dim=1)


def measure(
    store: Store, rows: np.ndarray, group: np.ndarray, scaling: CellScaling | ChannelScaling, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Profiles of the cells `rows`, standardised within each group, and their `pooled_features`.

    A profile is what `measured` and `masked_features` say of the cell.

    Args:
        group: (len(rows),) int64; one number for all cells standardises over all.
        scaling: Of the features, for `pooled_features`.

    Returns:
        (n, 609) and (n, 512) float32.
    """
    profiles, pooled = [], []
    boxes = store.table()[["x0", "y0", "x1", "y1"]].to_numpy()
    with Progress(total=len(rows), desc="profiles", unit="cell") as bar:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            features = store.read("features", batch)
            masks = store.read("masks", batch)
            numbers = measured(store.read("crops", batch), masks, boxes[batch])
            profiles.append(np.hstack([numbers, masked_features(features, masks)]))
            number = torch.from_numpy(group[start : start + batch_size])
            pooled.append(pooled_features(scaling(torch.from_numpy(features), number)))
            bar.update(len(batch))
    profile = np.concatenate(profiles)
    for k in np.unique(group):
        members = group == k
        mean, sd = profile[members].mean(0), profile[members].std(0)
        profile[members] = (profile[members] - mean) / np.where(sd > 1e-6, sd, 1)
    return torch.from_numpy(profile), torch.cat(pooled)


def profile_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, 80 % of it that of the measurements; both (n, 609)."""
    prediction = prediction.float()
    numbers = functional.mse_loss(prediction[:, :MEASURED], target[:, :MEASURED])
    features = functional.mse_loss(prediction[:, MEASURED:], target[:, MEASURED:])
    return MEASURED_SHARE * numbers + (1 - MEASURED_SHARE) * features


def best_linear_latent(pooled: Tensor, profile: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The linear map through `size` numbers that predicts profiles best: reduced-rank ridge regression.

    Source: Izenman, "Reduced-rank regression for the multivariate linear model", J. Multivariate Analysis 5, 1975, in
    the metric of `profile_loss`, with a ridge of 30 on standardised inputs.

    Args:
        pooled: (n, p), each column of mean 0 and standard deviation 1.
        profile: (n, q), each column of mean 0.

    Returns:
        encoder (size, p) and decoder (q, size) float32: profile ≈ pooled · encoderᵀ · decoderᵀ. The first of the `size`
        numbers, the one that explains most, has standard deviation 1, the others less.
    """
    x, y = pooled.double(), profile.double()
    metric = torch.full((y.shape[1],), (1 - MEASURED_SHARE) / (y.shape[1] - MEASURED), dtype=torch.float64)
    metric[:MEASURED] = MEASURED_SHARE / MEASURED
    y = y * metric.sqrt()
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    _, singular, directions = torch.linalg.svd(x @ weights, full_matrices=False)
    kept = directions[:size]
    missing = size - len(kept)
    kept = functional.pad(kept, (0, 0, 0, missing))
    spread = (singular[0] / len(x) ** 0.5).clamp_min(1e-12)
    encoder = (weights @ kept.T).T / spread
    decoder = (kept * spread).T / metric.sqrt()[:, None]
    return encoder.float(), decoder.float()
