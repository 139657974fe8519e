"""The floor: what colours and coarse pixels alone tell, before anything is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cellfeat.methods.base import Kind
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.store import Store

BATCH = 1024


class ColourConfig(BaseModel):
    """Settings of `Colour`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bins: int = Field(16, ge=2, le=256, description="Of each channel's histogram.")
    side: int = Field(24, ge=1, description="Height and width, in pixels, that the crop is shrunk to.")


@dataclass(frozen=True)
class Colour:
    """A histogram of each of red, green and blue over the crop, and the crop shrunk to a few pixels.

    Nothing is trained, no mask is used. Histograms are shares of the crop's pixels, shrunk pixels (area average) lie in
    [0, 1]. An extractor that does not beat this across laboratories has learned nothing worth its name.
    """

    config: ColourConfig
    Config: ClassVar[type[BaseModel]] = ColourConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Colour histograms and coarse pixels, the floor"
    name: ClassVar[str] = "colour"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(n, 3·bins + 3·side²) float32."""

        def describe(rows: np.ndarray) -> np.ndarray:
            return np.stack([self._describe(crop) for crop in store.read("crops", rows)])

        return embed_batches(store, self.name, BATCH, describe)

    def _describe(self, crop: np.ndarray) -> np.ndarray:
        histograms = [np.histogram(crop[..., k], self.config.bins, (0, 256))[0] for k in range(3)]
        size = (self.config.side, self.config.side)
        pixels = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        shares = np.concatenate(histograms) / crop[..., 0].size
        return np.concatenate([shares, pixels.ravel() / 255]).astype(np.float32)
