from dataclasses import replace

import numpy as np
import pytest
from dark_spots import DarkSpots, disc_field

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.scale import cell_diameter, choose_tiling, is_field, too_small

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"  # its short edge is 224, its long edge 448 at most


@pytest.fixture(scope="module")
def cfg():
    return load_config(CONFIG)


@pytest.fixture(scope="module")
def physical():
    return load_config(CONFIG, ["INPUT.UM_PER_PX", "0.2"])


@pytest.mark.parametrize(
    ("size", "field"), [((120, 120), False), ((300, 320), False), ((400, 400), True), ((200, 2000), True)]
)
def test_pictures_of_one_cell_are_no_fields(cfg, size, field):
    assert is_field(cfg, size, None) == field
    assert (choose_tiling(cfg, size, None, diameter=20) is not None) == field


def test_the_size_of_cells_decides(cfg):
    assert choose_tiling(cfg, (1200, 1200), None, diameter=360) is None  # a large picture of one cell
    tiling = choose_tiling(cfg, (1200, 1200), None, diameter=60)
    assert tiling.side == 240  # in which 60 px are 0.25 of the short edge
    assert tiling.overlap == 90
    assert choose_tiling(cfg, (1200, 1200), 0.2, diameter=None).side == 240  # 12 µm are 60 px
    assert choose_tiling(cfg, (1200, 1200), None, diameter=None).side == 224


def test_a_known_scale_decides_where_the_detector_has_one(physical):
    assert not is_field(physical, (400, 400), 0.2)
    assert is_field(physical, (1600, 1600), 0.2)
    assert choose_tiling(physical, (1600, 1600), 0.1, None).side == 896
    assert choose_tiling(physical, (1600, 1600), 0.1, None).overlap == 250  # 25 µm


def test_cells_that_are_too_small_to_be_seen(cfg):
    assert too_small(cfg, (400, 400), 1.0)
    assert not too_small(cfg, (400, 400), 0.1)
    assert not too_small(cfg, (400, 400), None)


@pytest.mark.parametrize("enlarged", [1, 2])
def test_the_cells_of_a_field_tell_their_size(cfg, enlarged):
    field, boxes = disc_field(count=60)
    field = field.repeat(enlarged, 0).repeat(enlarged, 1)
    detector = DarkSpots(short=224, seen=(25, 200))
    diameter = cell_diameter(detector, cfg, [field, np.full_like(field, 255)], 0.3)
    expected = enlarged * np.median([x1 - x0 for x0, _, x1, _ in boxes])
    assert expected / 1.5 < diameter < expected * 1.5
    assert cell_diameter(detector, cfg, [np.full_like(field, 255)], 0.3) is None
    assert detector.calls <= 3 * (2 + 3 * 4)  # fields, scales, tiles


class SurerOfParts(DarkSpots):
    """Surer of the black spot in a cell than of the cell, where it does not see the whole picture."""

    def cells(self, image):
        if len(image) == 560:
            return super().cells(image)
        parts = super().cells(np.where(image < 20, image, 255))
        return replace(parts, scores=np.ones(len(parts), np.float32))


def test_parts_that_are_surer_than_their_cell_do_not_win(cfg):
    y, x = np.mgrid[:560, :560] - 280
    field = np.full((560, 560, 3), 255, np.uint8)
    field[np.hypot(y, x) < 70] = 100
    field[np.hypot(y, x) < 14] = 0
    assert cell_diameter(SurerOfParts(short=224, seen=(25, 200)), cfg, [field], 0.3) == pytest.approx(139, abs=2)
