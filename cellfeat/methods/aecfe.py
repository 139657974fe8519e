"""AE-CFE itself, as one method among others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel

from cellfeat.autoencoder import AutoencoderConfig, encode, reconstruct, train_autoencoder
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.methods.base import Kind

if TYPE_CHECKING:
    from cellfeat.store import Store

WEIGHTS = "autoencoder.safetensors"


@dataclass(frozen=True)
class AECFE:
    """The autoencoder of ROI features whose latent is aligned between domains; see `cellfeat.autoencoder`."""

    config: AutoencoderConfig
    Config: ClassVar[type[BaseModel]] = AutoencoderConfig
    Module: ClassVar[type[AutoencoderModule]] = AutoencoderModule
    kind: ClassVar[Kind] = "embedding"
    name: ClassVar[str] = "aecfe"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Train on the cells `rows` of all their domains; the config's own split is not used."""
        train_autoencoder(store, folder, self.config, rows, self.Module)

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(n, 50) float32 in [-1, 1]."""
        return encode(store, folder / WEIGHTS)[0]

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), 128, 128, 3) uint8 RGB."""
        images = reconstruct(store, folder / WEIGHTS, rows).transpose(0, 2, 3, 1)
        return (images * 255).round().astype(np.uint8)
