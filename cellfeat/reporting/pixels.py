"""What the pixels of a store say before anything is learned: mean crops, and colours by domain."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellfeat.core.progress import Progress

if TYPE_CHECKING:
    from cellfeat.store import Store

BATCH = 256  # cells at a time
BINS = 64  # of 4 grey levels each


@dataclass(frozen=True)
class Pixels:
    """Of the crops of a store, RGB.

    Attributes:
        mean: (S, S, 3) float64 in [0, 255] by (label, domain): the mean crop; "" is the label of unlabelled cells.
        crop: (3, BINS) float64 by domain: the share of each channel's pixels in each bin, over the whole crops.
        mask: As `crop`, over the pixels within the cells' masks, where large cells count more; not a number in a domain
            without any.
    """

    mean: dict[tuple[str, str], np.ndarray]
    crop: dict[str, np.ndarray]
    mask: dict[str, np.ndarray]


def read_pixels(store: Store, batch: int = BATCH) -> Pixels:
    """Pass once over the crops and masks of a store, `batch` cells at a time, so that memory does not grow with it."""
    cells = store.table()[["label", "domain"]]
    total: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((), np.int64))
    crop: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, BINS), np.int64))
    mask: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, BINS), np.int64))
    with Progress(total=len(store), desc="pixels", unit="cell") as progress:
        for start in range(0, len(store), batch):
            rows = slice(start, start + batch)
            crops, masks = store.read("crops", rows), store.read("masks", rows).astype(bool)
            for (label, domain), at in cells.iloc[rows].groupby(["label", "domain"]).indices.items():
                total[label, domain] = total[label, domain] + crops[at].sum(axis=0, dtype=np.int64)
                crop[domain] += _histograms(crops[at].reshape(-1, 3))
                mask[domain] += _histograms(crops[at][masks[at]])
            progress.update(len(crops))
    counts = cells.value_counts()
    mean = {group: summed / counts[group] for group, summed in total.items()}
    return Pixels(mean, _shares(crop), _shares(mask))


def _histograms(pixels: np.ndarray) -> np.ndarray:
    """(3, BINS) counts of pixels (n, 3) uint8."""
    return np.stack([np.bincount(channel // (256 // BINS), minlength=BINS) for channel in pixels.T])


def _shares(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(invalid="ignore"):  # no mask at all: 0 of 0
        return {domain: count / count.sum(axis=1, keepdims=True) for domain, count in counts.items()}
