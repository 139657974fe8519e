"""Plain R-CNN features: the detector's own description of a cell, averaged over its box."""

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

BATCH = 512  # cells at a time: 100 MB as float32 for features of 256 x 14 x 14


class RCNNConfig(BaseModel):
    """Nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class RCNN:
    """Features (n, C, H, W) averaged over height and width; nothing is trained."""

    config: RCNNConfig
    Config: ClassVar[type[BaseModel]] = RCNNConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "The detector's features, averaged"
    name: ClassVar[str] = "rcnn"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(n, C) float32, 256-d for features of the mask or box pooler; a plain vector (n, C) is kept."""

        def average(rows: np.ndarray) -> np.ndarray:
            return store.read("features", rows).reshape(len(rows), store.feature_shape[0], -1).mean(2, np.float32)

        return embed_batches(store, self.name, BATCH, average)
