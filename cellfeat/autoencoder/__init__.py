"""AE-CFE: an autoencoder of ROI features whose latent is aligned between domains. Torch is imported at first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellfeat.autoencoder.config import AutoencoderConfig
    from cellfeat.autoencoder.embedding import encode, reconstruct
    from cellfeat.autoencoder.losses import domain_alignment_loss
    from cellfeat.autoencoder.network import Autoencoder
    from cellfeat.autoencoder.scaling import scale_features
    from cellfeat.autoencoder.training import train_autoencoder
    from cellfeat.autoencoder.weights import load_autoencoder, save_autoencoder

_HOME = {
    "Autoencoder": "network",
    "AutoencoderConfig": "config",
    "domain_alignment_loss": "losses",
    "encode": "embedding",
    "load_autoencoder": "weights",
    "reconstruct": "embedding",
    "save_autoencoder": "weights",
    "scale_features": "scaling",
    "train_autoencoder": "training",
}

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "domain_alignment_loss",
    "encode",
    "load_autoencoder",
    "reconstruct",
    "save_autoencoder",
    "scale_features",
    "train_autoencoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
