from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellfeat.autoencoder import network
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

NARROW = (8, 8, 8, 8)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """A store of random cells, dealt to the domains in turn; `features` (n, C, H, W) replaces the random ones."""

    def make(
        cells: int = 24,
        domains: tuple[str, ...] = ("acevedo", "int", "matek"),
        crop_size: int = 128,
        features: np.ndarray | None = None,
        name: str = "store",
    ) -> Store:
        random = np.random.default_rng(0)
        if features is None:
            features = random.standard_normal((cells, 256, 14, 14))
        path = tmp_path / name
        with StoreWriter(path, features.shape[1:], crop_size, {"made_by": "test"}, shard_cells=10) as writer:
            for k, feature in enumerate(features):
                domain = domains[k % len(domains)]
                cell = CellRow(
                    feature=feature.astype(np.float16),
                    crop=np.full((crop_size, crop_size, 3), random.integers(0, 256, 3), np.uint8),
                    mask=np.pad(np.ones((crop_size - 8, crop_size), np.uint8), ((0, 8), (0, 0))),
                    box=np.array([1, 2, 30, 40], np.float32),
                    score=0.9,
                    label="",
                )
                writer.add(ImageResult(f"{domain}/{k:03d}.png", domain, "", width=64, height=64, cells=[cell]))
        return Store(path)

    return make


@pytest.fixture
def narrow_image_decoder(monkeypatch):
    """An image decoder that costs a hundredth of the published one, which takes a second a cell and step."""
    monkeypatch.setattr(network, "IMAGE_CHANNELS", NARROW)
