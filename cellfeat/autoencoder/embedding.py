"""Trained weights in use: cells to embeddings, and cells to what the image decoder makes of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellfeat.autoencoder.data import check_shapes
from cellfeat.autoencoder.network import Autoencoder
from cellfeat.autoencoder.scaling import ChannelScaling, channel_statistics
from cellfeat.autoencoder.weights import load_autoencoder
from cellfeat.core.precision import usable
from cellfeat.core.tensors import best_device
from cellfeat.errors import CellfeatError
from cellfeat.store import Store, embed_batches

log = logging.getLogger(__name__)

ENOUGH_CELLS = 50
"""Of a domain that training has not seen; the statistics of fewer are rough."""


def encode(store: Store, weights: str | Path, batch_size: int = 256, precision: str = "fp32") -> np.ndarray:
    """Embed every cell of a store with the encoder.

    Args:
        store: Feature store with (256, 14, 14) features; its crops are not read.
        weights: .safetensors written by `train_autoencoder`.
        batch_size: Cells at once; changes speed and memory only.
        precision: "fp32", or "bf16" for convolutions in bfloat16; the encoder's last normalisations divide by the
            spread of a few numbers each, which widens bfloat16's rounding to a few hundredths of z.

    Returns:
        z (len(store), 50) float32 in [-1, 1], in the order of the store.

    Raises:
        CellfeatError: The store's features or the weights do not fit the network, or the precision is unknown.
    """
    if precision not in ("fp32", "bf16"):
        raise CellfeatError(f"precision {precision!r}: choose fp32 or bf16")
    check_shapes(store, crops=False)
    network, card, device = _load(weights)
    group = _groups(store, network, card)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=usable(precision, device) == "bf16")

    def latents(rows: np.ndarray) -> np.ndarray:
        return network.encode(_scaled(network, store, rows, group, device)).float().cpu().numpy()

    with torch.inference_mode(), autocast:
        return embed_batches(store, "embed", batch_size, latents)


def reconstruct(store: Store, weights: str | Path, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Crops as the autoencoder sees them.

    Args:
        store: Feature store with (256, 14, 14) features.
        weights: .safetensors written by `train_autoencoder`.
        rows: Row numbers of the cells, a few dozen at most: they are decoded at once.

    Returns:
        (n, 3, 128, 128) float32 RGB in [0, 1], in the order of `rows`.

    Raises:
        CellfeatError: The store's features or the weights do not fit the network.
    """
    check_shapes(store, crops=False)
    network, card, device = _load(weights)
    group = _groups(store, network, card)
    with torch.inference_mode():
        return network(_scaled(network, store, np.asarray(rows), group, device))[2].cpu().contiguous().numpy()


def _load(weights: str | Path) -> tuple[Autoencoder, dict[str, Any], torch.device]:
    """Network, card, and the device that the network was moved to: a GPU if there is one."""
    network, card = load_autoencoder(weights)
    device = best_device()
    return network.to(device).to(memory_format=torch.channels_last), card, device


def _groups(store: Store, network: Autoencoder, card: dict[str, Any]) -> np.ndarray:
    """Number of each cell's group of statistics, (len(store),) int64.

    A domain that training has not seen gets statistics of its own, from all its cells in the store.
    """
    domain = store.table()["domain"].to_numpy(str)
    scaling = network.scaling
    if not isinstance(scaling, ChannelScaling) or card["config"]["scaling"] != "domain":
        return np.zeros(len(store), np.int64)
    names = list(card["domains"])
    for name in sorted(set(domain) - set(names)):
        rows = np.flatnonzero(domain == name)
        log.info("domain %s: not seen in training, its features are scaled by its own %d cells", name, len(rows))
        if len(rows) < ENOUGH_CELLS:
            log.warning("domain %s: the statistics of %d cells are rough; embed more cells together", name, len(rows))
        scaling.extend(*channel_statistics(store, rows))
        names.append(name)
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[name] for name in domain], np.int64)


def _scaled(
    network: Autoencoder, store: Store, rows: np.ndarray, group: np.ndarray, device: torch.device
) -> torch.Tensor:
    features = torch.from_numpy(store.read("features", rows)).to(device)
    h = network.scaling(features, torch.from_numpy(group[rows]).to(device))
    return h.contiguous(memory_format=torch.channels_last)
