from __future__ import annotations

import numpy as np

from cellfeat.methods.background import purple_masks


def disc(side: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def test_the_cell_is_central_and_purpler_than_the_rest():
    """A purple cell with a pale vacuole near the centre, a larger one at the edge, red cells between."""
    crop = np.full((64, 64, 3), (235, 225, 235), np.uint8)
    cell, other, red = disc(64, (34, 30), 12), disc(64, (0, 63), 16), disc(64, (56, 10), 8)
    crop[cell], crop[other], crop[red] = (110, 60, 150), (110, 60, 150), (220, 170, 180)
    crop[disc(64, (34, 30), 3)] = (235, 225, 235)
    crop = (crop + np.random.default_rng(0).normal(0, 4, crop.shape)).clip(0, 255).astype(np.uint8)
    (mask,) = purple_masks(crop[None])
    assert mask.dtype == np.uint8
    assert (mask.astype(bool) & cell).sum() / (mask.astype(bool) | cell).sum() > 0.85
    assert not (mask.astype(bool) & (other | red)).any()


def test_a_crop_of_one_colour_is_kept_whole():
    assert purple_masks(np.full((2, 16, 16, 3), 200, np.uint8)).all()
    assert purple_masks(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 16, 16)
