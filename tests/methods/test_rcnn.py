from __future__ import annotations

import numpy as np

from cellfeat.methods import build, rcnn


def test_features_are_averaged_over_the_box_batch_by_batch(store, tmp_path, monkeypatch):
    monkeypatch.setattr(rcnn, "BATCH", 3)
    expected = store.read("features", slice(None)).astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(build("rcnn").embed(store, tmp_path), expected, rtol=0, atol=1e-6)
