from __future__ import annotations

import pytest
import torch

from cellfeat.data.restain import blurred, restained


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Sixteen times one dark disc off the centre on a light ground, 48 px."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    dark = torch.hypot(x - 24, y - 16) < 9
    return torch.where(dark, 0.2, 0.9).expand(16, 3, 48, 48).contiguous()


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
