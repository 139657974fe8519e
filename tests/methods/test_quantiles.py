from __future__ import annotations

import numpy as np

from cellfeat.methods import build


def test_quantiles_are_those_of_the_masked_pixels(store, tmp_path):
    z = build("quantiles").embed(store, tmp_path)
    assert z.shape == (len(store), 27)
    assert z.dtype == np.float32
    crop, mask = store.read("crops", [3])[0], store.read("masks", [3])[0]
    inside = crop[mask > 0] if mask.any() else crop.reshape(-1, 3)
    np.testing.assert_allclose(z[3, 12:15], np.median(inside, axis=0) / 255, rtol=1e-6)
