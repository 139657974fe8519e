"""The nearest cells of an embedding, quickly: one matrix product, then exact distances of the few that are near."""

from __future__ import annotations

import numpy as np

CANDIDATES = 8  # as many cells as are wanted are measured exactly: |a|² − 2ab + |b|² of float32 rounds


class Neighbours:
    """The cells of an embedding, to be searched again and again.

    Args:
        z: (n, d) finite float32.
    """

    def __init__(self, z: np.ndarray) -> None:
        self.z = z
        self._squares = np.einsum("nd,nd->n", z, z)

    def nearest(
        self, point: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest cells by Euclidean distance.

        Args:
            point: (d,).
            count: How many.
            allowed: (n,) bool, the cells that count; None: all.

        Returns:
            Rows (k,) int and their distances (k,) float32, the nearest first; k is `count`, or fewer where there are
            fewer.
        """
        roughly = self._squares - 2 * (self.z @ point.astype(self.z.dtype))
        rows = np.arange(len(roughly)) if allowed is None else np.flatnonzero(allowed)
        if len(rows) > CANDIDATES * count:
            rows = rows[np.argpartition(roughly[rows], CANDIDATES * count)[: CANDIDATES * count]]
        away = np.sqrt(np.square(self.z[rows] - point).sum(axis=1))
        order = np.lexsort((rows, away))[:count]
        return rows[order], away[order]
