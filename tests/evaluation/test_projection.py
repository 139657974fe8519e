from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from cellfeat.evaluation.projection import project

RNG = np.random.default_rng(0)


def test_many_cells_are_thinned_evenly_and_the_same_way_twice():
    z = RNG.normal(size=(200, 5))
    domain = np.array(["large"] * 180 + ["small"] * 20)
    drawn = project(z, domain, max_cells=60, kind="t-SNE")
    assert drawn.points.shape == (60, 2)
    assert np.isfinite(drawn.points).all()
    assert (np.diff(drawn.rows) > 0).all()
    assert (domain[drawn.rows] == "small").sum() == 20
    again = project(z, domain, max_cells=60, kind="t-SNE")
    np.testing.assert_array_equal(drawn.points, again.points)


@pytest.mark.parametrize("kind", ["UMAP", "t-SNE"])
def test_the_same_cells_are_shown_in_three_dimensions(kind):
    z, domain = RNG.normal(size=(60, 5)), np.array(["a", "b"] * 30)
    flat = project(z, domain, max_cells=40, kind=kind)
    solid = project(z, domain, max_cells=40, dimensions=3, kind=kind)
    assert flat.kind == solid.kind == kind
    np.testing.assert_array_equal(solid.rows, flat.rows)
    assert solid.points.shape == (40, 3)
    assert np.isfinite(solid.points).all()


@pytest.mark.parametrize("kind", ["UMAP", "t-SNE"])
@pytest.mark.parametrize(
    ("z", "reason"),
    [
        (np.full((24, 50), 0.5, np.float32), "the embeddings of all 24 cells are equal"),
        (1e6 + 1e-3 * RNG.normal(size=(24, 4)), "the embeddings of all 24 cells are equal"),  # rounding of float32
        (np.ones((1, 3)), "1 cell, 10 are needed"),
        (np.empty((0, 3)), "0 cells, 10 are needed"),
        (np.full((12, 3), np.nan), r"0 cells, 10 are needed \(12 more have values that are not finite\)"),
    ],
)
def test_what_cannot_be_drawn_says_why(kind, z, reason):
    drawn = project(z, np.array(["a"] * len(z)), dimensions=3, kind=kind)
    assert drawn.points.shape == (0, 3)
    assert len(drawn.rows) == 0
    assert re.match(reason, drawn.reason)


@pytest.mark.parametrize("kind", ["UMAP", "t-SNE"])
@pytest.mark.parametrize(
    "z",
    [
        np.repeat([[0.0, 1.0], [1.0, 0.0]], 12, axis=0),  # two points
        RNG.normal(size=(20, 1)),  # fewer dimensions than are drawn
        RNG.normal(size=(10, 4)),  # fewer cells than the default perplexity
        1e30 * RNG.normal(size=(30, 4)),  # squares overflow float32
        1e-30 * RNG.normal(size=(30, 4)),
        np.eye(30)[:, :3],  # one point and three outliers
    ],
)
def test_odd_embeddings_are_drawn(kind, z):
    drawn = project(z, np.array(["a"] * len(z)), kind=kind)
    assert drawn.reason == ""
    assert np.isfinite(drawn.points).all()
    assert len(drawn.points) == len(z)


def test_rows_that_are_not_finite_are_left_out_and_counted():
    z = RNG.normal(size=(20, 3))
    z[3, 0], z[7, 1] = np.nan, np.inf
    drawn = project(z, np.array(["a"] * 20), kind="t-SNE")
    assert drawn.left_out == 2
    assert not {3, 7} & set(drawn.rows)


THREADS = """
import numpy as np, torch
from sklearn.ensemble import RandomForestClassifier
from cellfeat.evaluation.projection import project
z = np.random.default_rng(0).normal(size=(600, 9))
RandomForestClassifier(5, n_jobs=-1).fit(z, np.arange(600) % 3)
project(z, np.array(["a", "b"] * 300), kind="UMAP")
assert torch.get_num_threads() == 1
"""


@pytest.mark.slow
def test_pytorch_keeps_its_one_thread():
    subprocess.run([sys.executable, "-c", THREADS], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
