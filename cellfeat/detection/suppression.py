"""Detections that lie within other detections: a cell found twice, or a part of a cell found beside the whole."""

from __future__ import annotations

import numpy as np

# Of the smaller box. Boxes of two equal cells whose centres are half a diameter apart share 0.5 at most. A part of a
# cell lies almost wholly in the box of the whole; IoU would keep it, because the whole is so much larger.
NESTED = 0.7


def keep_outer(boxes: np.ndarray, scores: np.ndarray, threshold: float = NESTED) -> np.ndarray:
    """Which detections to keep so that no two share more than `threshold` of the smaller box.

    The larger one of two is kept where its score is at least half of the other's, else the one of higher score: a part
    of a cell often scores a little more than the whole.

    Args:
        boxes: (n, 4) XYXY, px.
        scores: (n,).
        threshold: Intersection over the area of the smaller box.

    Returns:
        Indices of the kept detections, ascending.
    """
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    alive = np.ones(len(boxes), bool)
    for i in np.lexsort((-scores, -area)):  # the largest first, of equal ones the best scored
        if not alive[i] or area[i] == 0:
            continue
        corner, end = np.maximum(boxes[:, :2], boxes[i, :2]), np.minimum(boxes[:, 2:], boxes[i, 2:])
        shared = np.prod(np.maximum(end - corner, 0), axis=1)
        nested = alive & (area > 0) & (area <= area[i]) & (shared > threshold * area)
        nested[i] = False
        if (scores[nested] > 2 * scores[i]).any():
            alive[i] = False  # the larger box is the doubtful one, such as one around two cells
        else:
            alive &= ~nested
    return np.flatnonzero(alive)
