from itertools import chain

import numpy as np
import pytest
from dark_spots import DarkSpots, disc_field
from hypothesis import given, settings
from hypothesis import strategies as st

from cellfeat.detection.suppression import keep_outer
from cellfeat.detection.tiling import detect_field, tile_grid
from cellfeat.errors import CellfeatError


@pytest.fixture(scope="module")
def pasted():
    """A field of 540 × 700 px with 80 discs and their boxes."""
    return disc_field(count=80)


def cut(field):
    return lambda tile: field[tile.box[1] : tile.box[3], tile.box[0] : tile.box[2]]


@pytest.mark.parametrize(("side", "overlap"), [(128, 32), (200, 64), (97, 33), (1000, 32)])
def test_every_cell_of_a_pasted_field_is_found_whole_and_once(pasted, side, overlap):
    field, boxes = pasted
    found = []
    for tile, cells in detect_field(DarkSpots(), cut(field), tile_grid(field.shape[:2], side, overlap)):
        found += [tuple(int(side) for side in box) for box in cells.boxes + tile.offset]
        for box, mask in zip(cells.boxes.astype(int), cells.masks, strict=True):
            assert mask.shape == (tile.box[3] - tile.box[1], tile.box[2] - tile.box[0])
            assert mask[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2]
    assert sorted(found) == boxes


def test_a_field_without_cells_has_none():
    field = np.full((90, 70, 3), 255, np.uint8)
    assert [len(cells) for _, cells in detect_field(DarkSpots(), cut(field), tile_grid((90, 70), 64, 16))] == [0] * 4


def test_tiles_that_are_left_out_change_nothing_of_the_others(pasted):
    field, _ = pasted
    grid = tile_grid(field.shape[:2], 128, 32)
    whole = {tile: cells.boxes.tolist() for tile, cells in detect_field(DarkSpots(), cut(field), grid)}
    skip = {*grid[0], *grid[1], grid[3][1]}
    some = {tile: cells.boxes.tolist() for tile, cells in detect_field(DarkSpots(), cut(field), grid, skip=skip)}
    assert some == {tile: boxes for tile, boxes in whole.items() if tile not in skip}
    assert not any(len(c) for _, c in detect_field(DarkSpots(), cut(field), grid, score_threshold=1.1))


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(1, 40), st.data())
def test_cores_divide_the_field_and_neighbours_overlap(size, side, data):
    overlap = data.draw(st.integers(0, side - 1))
    covered = np.zeros(size, np.uint8)
    for tile in chain.from_iterable(tile_grid(size, side, overlap)):
        (x0, y0, x1, y1), (cx0, cy0, cx1, cy1) = tile.box, tile.core
        assert 0 <= x0 <= cx0 < cx1 <= x1 <= size[1]
        assert 0 <= y0 <= cy0 < cy1 <= y1 <= size[0]
        assert x1 - x0 == min(side, size[1])
        assert y1 - y0 == min(side, size[0])
        assert cx0 == 0 or cx0 - x0 >= overlap // 2
        assert cx1 == size[1] or x1 - cx1 >= overlap // 2
        covered[cy0:cy1, cx0:cx1] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize(("size", "side", "overlap"), [((0, 9), 9, 3), ((9, 9), 9, 9), ((9, 9), 9, -1)])
def test_tiles_that_cannot_cover_are_refused(size, side, overlap):
    with pytest.raises(CellfeatError, match="do not cover"):
        tile_grid(size, side, overlap)


def test_nested_duplicates_and_parts_are_suppressed_and_neighbours_are_not():
    boxes = np.float32([[0, 0, 40, 40], [2, 2, 38, 38], [0, 0, 18, 40], [20, 0, 60, 40], [100, 0, 140, 40]])
    scores = np.float32([0.90, 0.95, 0.92, 0.8, 0.3])
    assert keep_outer(boxes, scores).tolist() == [0, 3, 4]


def test_a_doubtful_box_around_two_cells_gives_way_to_them():
    boxes = np.float32([[0, 0, 80, 40], [0, 0, 40, 40], [40, 0, 80, 40]])
    assert keep_outer(boxes, np.float32([0.2, 0.9, 0.9])).tolist() == [1, 2]


def test_no_detection_and_empty_boxes():
    assert keep_outer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).tolist() == []
    assert keep_outer(np.float32([[5, 5, 5, 9], [0, 0, 20, 20]]), np.float32([0.5, 0.6])).tolist() == [0, 1]
