"""What is worth a look."""

from __future__ import annotations

import numpy as np

from cellfeat.view import review


def test_opinions_that_differ_are_counted_in_pairs():
    one, other = np.array(["a", "a", "b", ""]), np.array(["a", "b", "b", ""])
    label = np.array(["a", "c", "", "a"])
    np.testing.assert_array_equal(review.disagreement([one, other, label]), np.float32([0, 1, 0, np.nan]))
    assert review.disagreement([one]) is None


def test_a_cell_apart_is_far_from_all_others():
    z = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)  # more than the sample
    z[7] = 50
    away = review.apartness(z)
    assert away.argmax() == 7
    exact = np.sort(np.linalg.norm(z[:5, None] - z[None], axis=2), axis=1)[:, 1:]
    assert (away[:5] >= exact[:, : review.NEAREST].mean(axis=1) - 1e-3).all()  # of a sample: no nearer than of all
    same = np.float32([[0, 0], [0, 0], [3, 4]])
    np.testing.assert_allclose(review.apartness(same), [2.5, 2.5, 5])
    assert review.apartness(same[:1]) is None


def test_worth_is_the_mean_rank_of_what_is_known():
    first, second = np.float32([0.1, 0.2, 0.3, np.nan]), np.float32([3, np.nan, 1, np.nan])
    np.testing.assert_allclose(review.worth([first, second]), [2 / 3, 2 / 3, 0.75, np.nan], rtol=1e-6)
    assert review.worth([]) is None
