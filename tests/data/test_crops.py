import numpy as np
import pytest

from cellfeat.data.crops import crop_cell, paste_mask


@pytest.fixture
def disc():
    """A picture whose cell is red and whose ground is blue: (image, mask, box)."""
    yy, xx = np.mgrid[:100, :120]
    mask = (yy - 40) ** 2 + (xx - 60) ** 2 < 20**2
    image = np.where(mask[..., None], (200, 0, 0), (0, 0, 200)).astype(np.uint8)
    return image, mask, np.array([41.0, 21, 80, 60])


def test_crop_and_mask_share_one_frame(disc):
    crop, mask = crop_cell(*disc, size=64, margin=0.1)
    assert crop.shape == (64, 64, 3)
    assert mask.dtype == crop.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert ((crop[..., 0] > crop[..., 2]) == (mask == 1)).mean() > 0.99
    assert mask.sum() == pytest.approx(disc[1].sum() * (64 / (39 * 1.2)) ** 2, rel=0.02)


def test_the_margin_is_the_same_on_every_side(disc):
    _, mask = crop_cell(*disc, size=96, margin=0.25)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert rows[0] == pytest.approx(95 - rows[-1], abs=1)
    assert columns[0] == pytest.approx(95 - columns[-1], abs=1)


def test_beyond_the_border_the_edge_is_repeated(disc):
    image, mask, _ = disc
    crop, crop_mask = crop_cell(image, mask, np.array([100.0, 80, 120, 100]), size=40, margin=0.5)
    assert (crop == (0, 0, 200)).all()
    assert not crop_mask.any()


def round_cell(x, y, radius, height=80, width=100):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_a_mask_comes_back_exactly_where_the_crop_has_the_images_pixels():
    mask = np.random.default_rng(0).random((80, 100)) < 0.5
    box = np.array([20, 10, 60, 50])
    _, crop_mask = crop_cell(np.zeros((80, 100, 3), np.uint8), mask, box, 60, 0.25)
    wanted = np.zeros_like(mask)
    wanted[0:60, 10:70] = mask[0:60, 10:70]
    np.testing.assert_array_equal(paste_mask(crop_mask, box, 0.25, 80, 100), wanted)


@pytest.mark.parametrize("size", [16, 64, 128, 301])
@pytest.mark.parametrize(
    ("centre", "radius"), [((50, 40), 20), ((50.3, 39.6), 18.7), ((3, 76), 12), ((97.5, 2), 15)], ids=str
)
def test_masks_come_back_at_any_scale_and_at_the_edges(size, centre, radius):
    mask = round_cell(*centre, radius)
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    _, crop_mask = crop_cell(np.zeros((80, 100, 3), np.uint8), mask, box, size, 0.1)
    pasted = paste_mask(crop_mask, box, 0.1, 80, 100)
    assert (pasted & mask).sum() / (pasted | mask).sum() > (0.93 if size == 16 else 0.985)
    shift = np.array(np.nonzero(pasted)).mean(axis=1) - np.array(np.nonzero(mask)).mean(axis=1)
    np.testing.assert_allclose(shift, 0, atol=0.3 if size == 16 else 0.06)


def test_a_box_without_extent_and_one_outside_have_no_pixels():
    full = np.ones((8, 8), np.uint8)
    assert not paste_mask(full, np.array([5, 5, 5, 5]), 0.1, 20, 20).any()
    assert not paste_mask(full, np.array([40, 40, 50, 50]), 0.1, 20, 20).any()
