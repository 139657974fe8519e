from __future__ import annotations

import numpy as np
import pytest

from cellfeat.evaluation import projection
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


@pytest.mark.parametrize(("kind", "module"), [("UMAP", "umap"), ("t-SNE", "sklearn")])
def test_the_same_cells_are_shown_in_three_dimensions(monkeypatch, kind, module):
    pytest.importorskip(module)
    monkeypatch.setattr(projection, "PROJECTION", kind)
    z = np.random.default_rng(0).normal(size=(60, 5))
    domain = np.array(["a", "b"] * 30)
    flat, _ = project(z, domain, max_cells=40)
    rows, xyz = project(z, domain, max_cells=40, dimensions=3)
    np.testing.assert_array_equal(rows, flat)
    assert xyz.shape == (40, 3)
    assert np.isfinite(xyz).all()
    assert project(z[:3], domain[:3], dimensions=3)[1].shape == (0, 3)
