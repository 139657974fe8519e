from __future__ import annotations

import pytest
import torch
from dark_discs import dark_discs, rng

from cellfeat.methods.views import moved, random_views


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return dark_discs()


def test_views_are_images_that_the_seed_fixes(crops):
    first, again, other = (random_views(crops, 32, rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (16, 3, 32, 32)
    assert 0 <= first.min() < first.max() <= 1
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first - other).abs().mean() > 0.02
    assert (first[0] - first[1]).abs().mean() > 0.02  # each cell has changes of its own


def test_moving_turns_the_cell_and_changes_no_colour(crops):
    views = moved(crops, 48, rng())
    assert views.min() >= 0.2 - 1e-6
    assert views.max() <= 0.9 + 1e-6
    weight = (views[:, 0] < 0.5).float()
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    middle = torch.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))]) / weight.sum((1, 2))
    assert (middle.std(1) > 3).all()  # the disc comes to lie in all directions
    assert weight.sum((1, 2)).std() > 10  # and at other scales
