from __future__ import annotations

import numpy as np
import pytest

from cellfeat.detection.config import find_config, load_config
from cellfeat.detection.second_look import find_cells
from cellfeat.detection.structures import CellInstances


class Remembering:
    """A detector that finds a cell where the short edge of the network's input is at most so many px."""

    def __init__(self, most: dict[int, int]) -> None:
        self.cfg = load_config(find_config("wbc_builtin.yaml"))
        self.most, self.seen = most, []

    def detect(self, images, um_per_px=None):
        edge = self.cfg.INPUT.MIN_SIZE_TEST
        self.seen.append((edge, [int(image[0, 0, 0]) for image in images]))
        return [_cells(0.9 if edge <= self.most[int(image[0, 0, 0])] else 0.1, edge) for image in images]


def _cells(score: float, edge: int) -> CellInstances:
    box = np.array([[0, 0, edge, edge]], np.float32)
    mask, feature = np.ones((1, 8, 8), bool), np.zeros((1, 4, 2, 2), np.float32)
    return CellInstances((8, 8), box, np.array([score], np.float32), mask, feature, np.zeros(1, int))


def test_a_picture_without_a_cell_is_looked_at_again_smaller():
    images = [np.full((8, 8, 3), k, np.uint8) for k in range(4)]
    detector = Remembering({0: 224, 1: 150, 2: 10, 3: 150})
    found = find_cells(detector, images, [None, None, None, 0.1], 0.3)
    assert detector.seen == [(224, [0, 1, 2, 3]), (144, [1, 2])]  # the scale of the last one is known
    assert [float(cells.boxes[0, 2]) for cells in found] == [224, 144, 224, 224]
    assert [float(cells.scores[0]) for cells in found] == pytest.approx([0.9, 0.9, 0.1, 0.1])
    assert detector.cfg.INPUT.MIN_SIZE_TEST == 224


def test_where_every_picture_has_a_cell_one_look_is_enough():
    detector = Remembering({0: 500})
    find_cells(detector, [np.zeros((8, 8, 3), np.uint8)], [None], 0.3)
    assert len(detector.seen) == 1
