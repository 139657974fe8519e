"""A store of a few cells with random features and crops."""

from __future__ import annotations

import numpy as np
import pytest

from cellfeat.store import CellRow, ImageResult, Store, StoreWriter


@pytest.fixture
def store(tmp_path) -> Store:
    """Eleven cells of two classes, whole masks, features (6, 4, 4), crops of 8 px."""
    rng = np.random.default_rng(0)
    mask, box = np.ones((8, 8), np.uint8), np.array([0, 0, 8, 8], np.float32)
    with StoreWriter(tmp_path / "store", (6, 4, 4), 8, {"made": "here"}, shard_cells=4) as writer:
        for k in range(11):
            label = ("blast", "monocyte")[k % 2]
            cell = CellRow(rng.normal(size=(6, 4, 4)), rng.integers(0, 256, (8, 8, 3), np.uint8), mask, box, 0.5, label)
            writer.add(ImageResult(f"site/{k}.png", "site", label, 8, 8, "", [cell]))
    return Store(tmp_path / "store")
