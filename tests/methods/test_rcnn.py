from __future__ import annotations

import numpy as np
import pytest

from cellfeat.methods import rcnn
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter, read_embeddings


@pytest.fixture
def store(tmp_path) -> Store:
    rng = np.random.default_rng(0)
    picture, box = np.zeros((8, 8, 3), np.uint8), np.array([0, 0, 8, 8], np.float32)
    with StoreWriter(tmp_path / "store", (6, 4, 4), 8, {"made": "here"}, shard_cells=4) as writer:
        for k in range(11):
            cell = CellRow(rng.normal(size=(6, 4, 4)), picture, picture[..., 0], box, 0.5, "")
            writer.add(ImageResult(f"site/{k}.png", "site", "", 8, 8, "", [cell]))
    return Store(tmp_path / "store")


def test_features_are_averaged_over_the_box_batch_by_batch(store, tmp_path, monkeypatch):
    monkeypatch.setattr(rcnn, "BATCH", 3)
    embeddings = read_embeddings(rcnn.embed_rcnn(store, tmp_path / "rcnn.h5"))
    assert embeddings.cell_id.tolist() == store.table()["cell_id"].tolist()
    assert embeddings.attributes["method"] == "rcnn"
    assert embeddings.attributes["store_digest"] == store.digest
    expected = store.read("features", slice(None)).astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(embeddings.z, expected, rtol=0, atol=1e-6)
