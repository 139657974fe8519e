from __future__ import annotations

import numpy as np

from cellfeat.methods import build
from cellfeat.methods.quantiles import QUANTILES, colour_quantiles


def test_quantiles_are_those_of_the_masked_pixels(store, tmp_path):
    z = build("quantiles").embed(store, tmp_path)
    assert z.shape == (len(store), 27)
    assert z.dtype == np.float32
    crop, mask = store.read("crops", [3])[0], store.read("masks", [3])[0]
    inside = crop[mask > 0] if mask.any() else crop.reshape(-1, 3)
    np.testing.assert_allclose(z[3, 12:15], np.median(inside, axis=0) / 255, rtol=1e-6)


def test_every_quantile_is_that_of_the_masked_pixels_however_the_cell_is_turned():
    random = np.random.default_rng(0)
    crop, mask = random.integers(0, 256, (28, 28, 3), dtype=np.uint8), random.integers(0, 2, (28, 28), dtype=np.uint8)
    for turns in range(4):
        (colours,) = colour_quantiles(np.rot90(crop, turns)[None], np.rot90(mask, turns)[None])
        for k, quantile in enumerate(QUANTILES):
            expected = np.quantile(crop[mask > 0] / 255, quantile, axis=0)
            np.testing.assert_allclose(colours[3 * k : 3 * k + 3], expected, rtol=1e-5)


def test_without_a_mask_the_whole_crop_counts():
    crop = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    masks = np.stack([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)])
    nothing, everything = colour_quantiles(np.stack([crop, crop]), masks)
    np.testing.assert_array_equal(nothing, everything)
