import numpy as np
import pytest

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.resize import network_size, physical_size, resize_image, shortest_edge_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (224, 299)), ((640, 480), (299, 224)), ((100, 1000), (45, 448)), ((363, 360), (226, 224))],
)
def test_shortest_edge_with_a_bound_on_the_long_one(size, expected):
    assert shortest_edge_size(size, 224, 448) == expected


def test_physical_size_makes_scales_equal():
    # one 9 µm cell in three microscopes: 124, 90 and 104 px there, as many µm a pixel here
    sizes = [physical_size((400, 400), 0.0725, 0.1, 1333), physical_size((360, 363), 0.1, 0.1, 1333)]
    assert sizes == [(290, 290), (360, 363)]
    assert physical_size((4000, 4000), 0.1, 0.1, 1000) == (1000, 1000)


def test_a_stated_scale_wins_over_the_short_edge_and_an_unknown_one_does_not():
    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", ["INPUT.UM_PER_PX", "0.2"])
    assert network_size(cfg, (360, 360), 0.1) == (180, 180)
    assert network_size(cfg, (360, 360), None) == (224, 224)


def test_resizing_to_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(image, (20, 30)), image)
    assert resize_image(image, (10, 15)).shape == (10, 15, 3)
