from __future__ import annotations

import numpy as np
import pytest

from cellfeat.evaluation.neighbours import Neighbours


@pytest.mark.parametrize("far", [0, 1000])  # far from the origin, float32 rounds the product by more than distances
def test_the_nearest_are_those_by_exact_distances(far):
    rng = np.random.default_rng(0)
    z = (far + rng.normal(size=(400, 7))).astype(np.float32)
    allowed = rng.random(400) < 0.5
    for row in (0, 7):
        away = np.linalg.norm(z.astype(float) - z[row].astype(float), axis=1)
        away[~allowed] = np.inf
        rows, distances = Neighbours(z).nearest(z[row], 6, allowed)
        np.testing.assert_array_equal(rows, np.argsort(away, kind="stable")[:6])
        np.testing.assert_allclose(distances, np.sort(away)[:6], rtol=1e-4)


def test_there_may_be_fewer_than_are_wanted():
    z = np.eye(3, dtype=np.float32)
    assert Neighbours(z).nearest(z[1], 9)[0].tolist() == [1, 0, 2]
    assert Neighbours(z).nearest(z[1], 9, np.zeros(3, bool))[0].size == 0
