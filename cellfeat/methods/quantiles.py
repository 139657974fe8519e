"""What the colours of the cell itself tell: quantiles within its mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from cellfeat.methods.base import Kind
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.store import Store

BATCH = 1024
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.5, 0.65, 0.75, 0.85, 0.95)


class QuantilesConfig(BaseModel):
    """`Quantiles` has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Quantiles:
    """Nine quantiles of red, green and blue; nothing is trained."""

    config: QuantilesConfig
    Config: ClassVar[type[BaseModel]] = QuantilesConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Quantiles of colour within the mask"
    name: ClassVar[str] = "quantiles"
    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(n, 27) float32 in [0, 1]."""

        def describe(rows: np.ndarray) -> np.ndarray:
            return colour_quantiles(store.read("crops", rows), store.read("masks", rows))

        return embed_batches(store, self.name, BATCH, describe)


def colour_quantiles(crops: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Nine quantiles of red, green and blue within the mask.

    Args:
        crops: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8 0/1 in the crop's frame; of an empty one the whole crop is taken.

    Returns:
        (n, 27) float32 in [0, 1]: the three colours' lowest quantile, then the next.
    """
    rows = [
        np.quantile(crop[mask > 0] if mask.any() else crop.reshape(-1, 3), QUANTILES, axis=0).ravel()
        for crop, mask in zip(crops, masks)
    ]
    return np.array(rows, np.float32).reshape(-1, 3 * len(QUANTILES)) / 255
