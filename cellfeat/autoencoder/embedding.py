"""Trained weights in use: cells to embeddings, and cells to what the image decoder makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellfeat.autoencoder.data import check_shapes
from cellfeat.autoencoder.network import Autoencoder, scale_features
from cellfeat.autoencoder.weights import load_autoencoder
from cellfeat.errors import CellfeatError
from cellfeat.store import Store, embed_batches, write_embeddings
from cellfeat.tensors import best_device


def embed(
    store: Store, weights: str | Path, output: str | Path, batch_size: int = 256, precision: str = "fp32"
) -> Path:
    """Embed every cell of a store with the encoder and write the embeddings, in the order of the store.

    Args:
        store: Feature store with (256, 14, 14) features; its crops are not read.
        weights: .safetensors written by `train_autoencoder`.
        output: Embeddings file, method "aecfe".
        batch_size: Cells at once; changes speed and memory only.
        precision: "fp32", or "bf16" for convolutions in bfloat16; the encoder's last normalisations divide by the
            spread of a few numbers each, which widens bfloat16's rounding to a few hundredths of z.

    Returns:
        `output`.

    Raises:
        CellfeatError: The store's features or the weights do not fit the network, or the precision is unknown.
    """
    z, card = encode(store, weights, batch_size, precision)
    attributes = {
        "method": "aecfe",
        "config": json.dumps(card["config"] | {"embed_precision": precision}),
        "store_digest": store.digest,
        "weights_sha256": card["weights_sha256"],
    }
    write_embeddings(output, store.table()["cell_id"].to_numpy(), z, attributes)
    return Path(output)


def encode(
    store: Store, weights: str | Path, batch_size: int = 256, precision: str = "fp32"
) -> tuple[np.ndarray, dict[str, Any]]:
    """Latents (len(store), 50) float32 of every cell in the order of the store, and the card of the weights.

    Arguments and errors are those of `embed`.
    """
    if precision not in ("fp32", "bf16"):
        raise CellfeatError(f"precision {precision!r}: choose fp32 or bf16")
    check_shapes(store, crops=False)
    network, card, device = _load(weights)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def latents(rows: np.ndarray) -> np.ndarray:
        return network.encode(_scaled(store, rows, device)).float().cpu().numpy()

    with torch.inference_mode(), autocast:
        return embed_batches(store, "embed", batch_size, latents), card


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
    network, _, device = _load(weights)
    with torch.inference_mode():
        return network(_scaled(store, np.asarray(rows), device))[2].cpu().contiguous().numpy()


def _load(weights: str | Path) -> tuple[Autoencoder, dict[str, Any], torch.device]:
    """Network, card, and the device that the network was moved to: a GPU if there is one."""
    network, card = load_autoencoder(weights)
    device = best_device()
    return network.to(device).to(memory_format=torch.channels_last), card, device


def _scaled(store: Store, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    features = torch.from_numpy(store.read("features", rows)).to(device)
    return scale_features(features).contiguous(memory_format=torch.channels_last)
