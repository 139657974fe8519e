"""What the colours of the cell itself tell: quantiles within its mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from cellfeat.autoencoder.profile import colour_quantiles
from cellfeat.methods.base import Kind
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.store import Store

BATCH = 1024


class QuantilesConfig(BaseModel):
    """`Quantiles` has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Quantiles:
    """The part of a cell's profile that needs no network; nothing is trained.

    The preset `transfer` of AE-CFE asks its latent to predict these numbers, so it is measured against them.
    """

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
