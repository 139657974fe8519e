from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from cellfeat.autoencoder.profile import (
    MEASURED,
    MEASURED_SHARE,
    PROFILE_SIZE,
    RIDGE,
    best_linear_latent,
    masked_features,
    measure,
    measured,
    pooled_features,
    profile_loss,
)
from cellfeat.autoencoder.scaling import CellScaling
from cellfeat.data.measurements import measure_cell


def a_cell(size: int = 28) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A cell in a square of 14 px, its features one to a pixel, and other things around it."""
    random = np.random.default_rng(0)
    crop = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    mask = np.zeros((size, size), np.uint8)
    mask[5:19, 8:22] = random.integers(0, 2, (14, 14))
    mask[5, 8] = mask[18, 21] = 1
    return random.normal(size=(4, 14, 14)).astype(np.float32), crop, mask


def test_a_profile_is_made_of_the_masked_pixels():
    feature, crop, mask = a_cell()
    (numbers,) = measured(crop[None], mask[None], np.array([[3.0, 3.0, 17.0, 31.0]]))
    np.testing.assert_array_equal(numbers, measure_cell(crop, mask, 28 / 28))
    (features,) = masked_features(feature[None], mask[None])
    inside = feature[:, mask[5:19, 8:22] > 0]
    np.testing.assert_allclose(features, np.concatenate([inside.mean(1), inside.std(1)]), rtol=1e-4)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_profile_does_not_change_when_the_cell_is_turned(turns):
    feature, crop, mask = a_cell()
    turned = np.ascontiguousarray(np.rot90(mask, turns))
    boxes = np.array([[0.0, 0.0, 28.0, 20.0], [0.0, 0.0, 20.0, 28.0]])
    numbers = measured(np.stack([crop, np.rot90(crop, turns)]), np.stack([mask, turned]), boxes)
    features = masked_features(np.stack([feature, np.rot90(feature, turns, (1, 2))]), np.stack([mask, turned]))
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


def test_without_a_mask_the_whole_crop_counts():
    feature, crop, mask = a_cell()
    masks = np.stack([np.zeros_like(mask), np.ones_like(mask)])
    numbers = measured(np.stack([crop, crop]), masks, np.ones((2, 4)))
    features = masked_features(np.stack([feature, feature]), masks)
    np.testing.assert_array_equal(numbers[0], numbers[1])
    np.testing.assert_array_equal(features[0], features[1])


def test_pooled_features_are_means_and_deviations():
    h = torch.randn(3, 5, 4, 4)
    torch.testing.assert_close(
        pooled_features(h), torch.cat([h.flatten(2).mean(2), h.flatten(2).std(2, correction=0)], 1)
    )


def test_profiles_are_standardised_within_each_group(make_store):
    store = make_store()
    rows = np.arange(len(store))
    group = rows % 3
    profile, pooled = measure(store, rows, group, CellScaling(), batch_size=10)
    assert profile.shape == (24, PROFILE_SIZE)
    assert pooled.shape == (24, 512)
    for k in range(3):
        torch.testing.assert_close(profile[group == k].mean(0), torch.zeros(PROFILE_SIZE), atol=1e-4, rtol=0)
        spread = profile[group == k].std(0, correction=0)
        varies = profile[group == k].abs().amax(0) > 1e-3  # a measurement may be the same for all of few cells
        assert varies.sum() > 0.9 * PROFILE_SIZE
        torch.testing.assert_close(spread, varies.float(), atol=1e-3, rtol=0)


def test_profile_loss_weighs_measurements_and_features():
    target = torch.zeros(2, PROFILE_SIZE)
    numbers, features = target.clone(), target.clone()
    numbers[:, :MEASURED] = 1
    features[:, MEASURED:] = 1
    assert float(profile_loss(numbers, target)) == pytest.approx(MEASURED_SHARE)
    assert float(profile_loss(features, target)) == pytest.approx(1 - MEASURED_SHARE)


def test_a_latent_of_full_rank_is_ridge_regression():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 12))
    x = (x - x.mean(0)) / x.std(0)
    y = x[:, :6] @ random.normal(size=(6, 40)) + random.normal(size=(400, 40))
    y -= y.mean(0)
    encoder, decoder = best_linear_latent(torch.from_numpy(x), torch.from_numpy(y), 12)
    expected = Ridge(RIDGE, fit_intercept=False).fit(x, y).predict(x)
    np.testing.assert_allclose(x @ encoder.numpy().T @ decoder.numpy().T, expected, atol=1e-3)


def test_a_small_latent_keeps_what_explains_most():
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 20))
    x = (x - x.mean(0)) / x.std(0)
    y = x[:, :3] @ (random.normal(size=(3, 40)) * np.array([[9.0], [3.0], [1.0]]))
    latent = x @ best_linear_latent(torch.from_numpy(x), torch.from_numpy(y), 3)[0].numpy().T
    assert latent.std(0)[0] == pytest.approx(1, abs=0.05)
    assert (np.diff(latent.std(0)) < 0).all()
    missed = []
    for size in (1, 2, 3):
        encoder, decoder = best_linear_latent(torch.from_numpy(x), torch.from_numpy(y), size)
        missed.append(np.square(y - x @ encoder.numpy().T @ decoder.numpy().T).sum() / np.square(y).sum())
    assert missed[0] > missed[1] > missed[2]
    assert missed[2] < 0.01
