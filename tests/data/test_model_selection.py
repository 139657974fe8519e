from __future__ import annotations

import numpy as np
import pytest

from cellfeat.data import model_selection
from cellfeat.data.model_selection import prediction_entropy, soft_neighbourhood_density


def test_entropy_by_hand():
    assert prediction_entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(np.log(2) / 2)


def test_soft_neighbourhood_density_by_hand():
    two_and_one = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # At temperature 1 the twins see (1, 0), the third (0, 0), so softmax gives (p, 1 - p) and (1/2, 1/2).
    p = np.e / (1 + np.e)
    twin = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert soft_neighbourhood_density(two_and_one, 1.0) == pytest.approx((2 * twin + np.log(2)) / 3)
    # At 0.005 a twin sees its twin alone.
    assert soft_neighbourhood_density(two_and_one) == pytest.approx(np.log(2) / 3)


def test_features_of_any_length_count_by_their_direction_alone():
    features = np.random.default_rng(0).normal(size=(6, 4))
    longer = features * np.arange(1, 7)[:, None]
    assert soft_neighbourhood_density(features) == pytest.approx(soft_neighbourhood_density(longer))
    assert np.isfinite(soft_neighbourhood_density(np.zeros((3, 2))))


def test_equal_predictions_are_as_dense_as_can_be_and_blocks_do_not_matter(monkeypatch):
    assert soft_neighbourhood_density(np.full((9, 4), 0.25)) == pytest.approx(np.log(8))
    some = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    whole = soft_neighbourhood_density(some)
    monkeypatch.setattr(model_selection, "ELEMENTS", 30)
    assert soft_neighbourhood_density(some) == pytest.approx(whole)


def test_of_many_cells_a_fixed_sample_is_compared_with_all(monkeypatch):
    many = np.random.default_rng(0).dirichlet(np.ones(3), 600)
    whole = soft_neighbourhood_density(many)
    monkeypatch.setattr(model_selection, "SAMPLED", 200)
    sampled = soft_neighbourhood_density(many)
    assert sampled == soft_neighbourhood_density(many)
    assert 0 < abs(sampled - whole) < 0.1
    monkeypatch.setattr(model_selection, "SAMPLED", 600)
    assert soft_neighbourhood_density(many) == whole
