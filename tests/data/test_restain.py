from __future__ import annotations

import pytest
import torch
from dark_discs import dark_discs, rng

from cellfeat.data.restain import blurred, restained


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return dark_discs()


def test_stain_changes_each_image_as_a_whole(crops):
    views = restained(crops, rng())
    for image in views:
        assert len(torch.unique(image.flatten(1).T.mul(1e4).round(), dim=0)) == 2
    grey = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-6
    assert 0 < grey.sum() < 12


def test_some_are_out_of_focus_and_none_darker(crops):
    views = blurred(crops, rng())
    changed = (views != crops).flatten(1).any(1)
    assert 0 < changed.sum() < 12
    torch.testing.assert_close(views.mean((1, 2, 3)), crops.mean((1, 2, 3)), rtol=1e-4, atol=1e-4)
