import numpy as np
import pytest

from cellfeat.detection.structures import CellInstances
from cellfeat.workflows.dump_cells import central_cell, select_cells


def cells(boxes, scores, size=(100, 100)):
    n = len(boxes)
    return CellInstances(
        size,
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(scores, np.float32),
        np.zeros((n, *size), bool),
        np.zeros((n, 1, 1, 1)),
    )


NEAR, OFF, AROUND, WEAK = [40, 40, 60, 60], [0, 0, 20, 20], [20, 20, 90, 90], [45, 45, 55, 55]


@pytest.mark.parametrize(("select", "expected"), [("center", [2]), ("score", [1]), ("all", [1, 2])])
def test_selection_leaves_out_parts_of_other_cells_where_all_are_kept(select, expected):
    found = cells([NEAR, OFF, AROUND, WEAK], [0.5, 0.9, 0.8, 0.1])
    assert select_cells(found, select, score_threshold=0.3) == expected


def test_the_central_cell_is_the_nearest_where_none_covers_the_centre():
    assert central_cell(cells([OFF, [60, 60, 90, 90]], [0.9, 0.4]), 0.3) == 1
    assert central_cell(cells([], []), 0.3) is None
