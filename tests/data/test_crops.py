import numpy as np
import pytest

from cellfeat.data.crops import crop_cell


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
