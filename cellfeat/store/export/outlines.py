"""Outlines of masks as polygons along the pixels' edges, so that the polygon's area is the mask's."""

from __future__ import annotations

import cv2
import numpy as np

Ring = list[list[float]]


def polygons(mask: np.ndarray) -> list[list[Ring]]:
    """The outlines of a mask, as GeoJSON's MultiPolygon has them.

    OpenCV traces the centres of a mask's border pixels, which loses half a pixel on each side. Here every pixel is
    doubled first: then an even coordinate is a left or upper edge of a pixel and an odd one a right or lower edge, and
    both are halved to where the edge is.

    Args:
        mask: (h, w) bool or 0/1.

    Returns:
        For each 4-connected part an outer ring and the rings of its holes, each closed, [x, y] in px of the mask with
        (0, 0) at the outer corner of the first pixel.
    """
    count, parts = cv2.connectedComponents(np.asarray(mask, np.uint8), connectivity=4)
    found = []
    for number in range(1, count):
        doubled = np.repeat(np.repeat((parts == number).astype(np.uint8), 2, axis=0), 2, axis=1)
        contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        rings = sorted((_ring(contour[:, 0]) for contour in contours), key=_area, reverse=True)
        found.append([ring.tolist() for ring in rings])  # the outer one is the largest
    return found


def _ring(contour: np.ndarray) -> np.ndarray:
    """Corners of a contour of doubled pixels, in px, (k, 2) float, the first again at the end."""
    edges = (contour + contour % 2) // 2
    edges = edges[(edges != np.roll(edges, 1, axis=0)).any(axis=1)]
    before, after = edges - np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0) - edges
    corners = edges[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.concatenate([corners, corners[:1]]).astype(float)


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
