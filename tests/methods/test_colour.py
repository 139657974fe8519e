from __future__ import annotations

import numpy as np

from cellfeat.methods import build


def test_histograms_are_shares_and_pixels_those_of_the_crop(store, tmp_path):
    z = build("colour", {"bins": 4, "side": 8}).embed(store, tmp_path)
    crops = store.read("crops", slice(None))
    assert z.shape == (11, 3 * 4 + 3 * 64)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z[:, :12].reshape(11, 3, 4).sum(axis=2), 1, rtol=1e-6)
    np.testing.assert_allclose(z[:, 0], (crops[..., 0] < 64).mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(z[:, 12:], crops.reshape(11, -1) / 255, rtol=1e-6)  # side 8 leaves the crop as it is


def test_shrinking_averages(store, tmp_path):
    z = build("colour", {"bins": 2, "side": 1}).embed(store, tmp_path)
    means = store.read("crops", slice(None)).mean(axis=(1, 2))
    np.testing.assert_allclose(z[:, 6:] * 255, means, atol=0.51)  # OpenCV rounds to whole grey levels
