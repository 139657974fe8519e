from __future__ import annotations

import numpy as np

from cellfeat.evaluation.projection import project


def test_many_cells_are_thinned_evenly_and_the_same_way_twice():
    z = np.random.default_rng(0).normal(size=(200, 5))
    domain = np.array(["large"] * 180 + ["small"] * 20)
    rows, xy = project(z, domain, max_cells=60)
    assert xy.shape == (60, 2)
    assert np.isfinite(xy).all()
    assert (np.diff(rows) > 0).all()
    assert (domain[rows] == "small").sum() == 20
    again, _ = project(z, domain, max_cells=60)
    np.testing.assert_array_equal(rows, again)


def test_a_handful_of_cells_makes_no_picture():
    rows, xy = project(np.zeros((3, 5)), np.array(["a"] * 3))
    assert len(rows) == 0
    assert xy.shape == (0, 2)
