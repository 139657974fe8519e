import numpy as np

from cellfeat.workflows.dump_summary import iou, joined_summary


def test_iou():
    np.testing.assert_allclose(
        iou(np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30.0]]), np.array([0, 0, 10, 10.0])), [1, 1 / 3, 0]
    )
    assert iou(np.array([[5, 5, 5, 5], [0, 0, 5, 5.0]]), np.array([5, 5, 5, 5.0])).tolist() == [0, 0]  # empty boxes


def test_parts_add_up():
    def part(images, unreadable, with_cell, mean_iou, iou_images):
        return {
            **{"images": images, "unreadable": unreadable, "with_cell": with_cell, "cells": 2 * with_cell},
            **{"detection_rate": None, "mean_iou": mean_iou, "iou_images": iou_images},
        }

    parts = [{"north": part(5, 1, 2, 0.5, 1), "south": part(2, 2, 0, None, 0)}, {"north": part(4, 0, 4, 1.0, 1)}]
    joined = joined_summary(parts)
    assert joined["north"] == part(9, 1, 6, 0.75, 2) | {"detection_rate": 6 / 8}
    assert joined["south"] == part(2, 2, 0, None, 0)
