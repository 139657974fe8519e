from __future__ import annotations

import numpy as np
import pytest

from cellfeat.data.measurements import DIMENSIONS, find_nucleus, measure_cell, measurement_names

CELL, NUCLEUS, GROUND = (200, 170, 210), (90, 40, 140), (240, 230, 220)


def drawn(nuclei: list[tuple[int, int, int]], radius: int = 40, size: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A round cell in the centre with discs (x, y, radius) of nucleus, and the cell's mask."""
    y, x = np.mgrid[:size, :size]
    mask = np.hypot(x - size // 2, y - size // 2) <= radius
    crop = np.where(mask[..., None], CELL, GROUND)
    for cx, cy, r in nuclei:
        crop[np.hypot(x - cx, y - cy) <= r] = NUCLEUS
    return crop.astype(np.uint8), mask.astype(np.uint8)


def measured(crop: np.ndarray, mask: np.ndarray, pixel: float = 1.0) -> dict[str, float]:
    return dict(zip(DIMENSIONS, measure_cell(crop, mask, pixel).tolist()))


def test_a_drawn_cell_has_the_measures_it_was_drawn_with():
    found = measured(*drawn([(50, 50, 20)]))
    cell, nucleus = (sum(np.hypot(*np.mgrid[-r : r + 1, -r : r + 1]).ravel() <= r) for r in (40, 20))
    assert found["cell_area"] == cell
    assert found["nucleus_area"] == nucleus
    assert found["nucleus_share"] == pytest.approx(nucleus / cell)
    assert found["cell_diameter"] == pytest.approx(80, rel=0.01)
    assert found["cell_extent"] == 81
    assert found["nucleus_major_axis"] == pytest.approx(40, rel=0.02)
    assert found["nucleus_thickness"] == pytest.approx(41, abs=1)
    assert found["nucleus_eccentricity"] == found["nucleus_offset"] == 0
    assert found["cell_circularity"] > 0.97
    assert [found[f"nucleus_{c}_q50"] for c in ("red", "green", "blue")] == list(NUCLEUS)
    assert [found[f"cytoplasm_{c}_q10"] for c in ("red", "green", "blue")] == list(CELL)
    assert [found[f"contrast_{c}"] for c in ("red", "green", "blue")] == np.subtract(CELL, NUCLEUS).tolist()
    assert (found["cell_green_q05"], found["cell_green_q95"]) == (NUCLEUS[1], CELL[1])
    assert (found["nucleus_contrast_1"], found["nucleus_homogeneity_3"]) == (0, 1)


def test_lobes_part_after_erosion():
    crop, mask = drawn([(35, 50, 11), (65, 50, 11)])
    assert measured(crop, mask)["nucleus_lobes_0"] == 2
    crop[48:53, 35:65] = NUCLEUS  # a thin bridge
    found = measured(crop, mask)
    assert [found[f"nucleus_lobes_{depth}"] for depth in (0, 3, 6, 9)] == [1, 1, 2, 2]
    assert found["nucleus_solidity"] < 0.8


def test_lengths_and_areas_have_the_unit_of_the_pixel_and_nothing_else_changes():
    crop, mask = drawn([(45, 55, 15)])
    px, um = measure_cell(crop, mask), measure_cell(crop, mask, 0.1)
    powers = np.array(list(DIMENSIONS.values()))
    np.testing.assert_allclose(um, px * 0.1**powers, rtol=1e-6)
    names = measurement_names("um")
    assert len(names) == len(set(names)) == len(px) == 97
    assert {"cell_area_um2", "nucleus_thickness_um", "nucleus_share", "cell_red_q05"} <= set(names)


def test_a_turned_cell_keeps_its_measures():
    crop, mask = drawn([(40, 60, 12), (60, 58, 9)])
    crop = crop ^ np.random.default_rng(0).integers(0, 8, crop.shape, np.uint8)
    np.testing.assert_allclose(
        measure_cell(np.rot90(crop), np.rot90(mask)), measure_cell(crop, mask), rtol=1e-3, atol=1e-3
    )


def test_specks_are_no_nucleus_and_small_gaps_are():
    crop, mask = drawn([(50, 50, 20), (75, 50, 2)])
    crop[49:52, 49:52] = CELL  # a nucleolus
    nucleus = find_nucleus(crop, mask > 0)
    assert not nucleus[50, 75]
    assert nucleus[50, 50]
    ring, mask = drawn([(50, 50, 25)])
    y, x = np.mgrid[:100, :100]
    ring[np.hypot(x - 50, y - 50) < 14] = CELL
    assert not find_nucleus(ring, mask > 0)[50, 50]


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("pixels", [0, 1, 2, 400])
def test_cells_without_anything_to_measure_stay_finite(value, pixels):
    mask = np.zeros((20, 20), np.uint8)
    mask.ravel()[:pixels] = 1
    found = measure_cell(np.full((20, 20, 3), value, np.uint8), mask)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert dict(zip(DIMENSIONS, found))["nucleus_area"] == 0
