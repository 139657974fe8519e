"""Which cells are worth a look: those that methods call differently, that they are unsure of, and that lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SAMPLE = 1000  # cells of an embedding that all others are measured against
NEAREST = 5  # of these, whose mean distance counts
MOST = 200_000  # cells up to which distances are measured: a second for 65,693 in 50 dimensions, four in 289
CHUNK = 8192  # cells at a time: 33 MB of distances


def disagreement(named: Sequence[np.ndarray]) -> np.ndarray | None:
    """The share of pairs of opinions that differ, for each cell; None with fewer than two opinions.

    Args:
        named: (n,) class names by each method, and the labels; "" for none.

    Returns:
        (n,) float32 in [0, 1], NaN for cells with fewer than two opinions.
    """
    if len(named) < 2:
        return None
    codes = [
        pd.factorize(np.concatenate(named))[0][k * len(named[0]) : (k + 1) * len(named[0])] for k in range(len(named))
    ]
    told = [one != "" for one in named]
    pairs, differ = np.zeros(len(named[0])), np.zeros(len(named[0]))
    for k in range(len(named)):
        for j in range(k):
            both = told[k] & told[j]
            pairs += both
            differ += both & (codes[k] != codes[j])
    return np.where(pairs > 0, differ / np.maximum(pairs, 1), np.nan).astype(np.float32)


def apartness(z: np.ndarray, seed: int = 0) -> np.ndarray | None:
    """How far each cell lies from others: the mean distance to the nearest of a sample; None for very many cells.

    Args:
        z: (n, d).

    Returns:
        (n,) float32.
    """
    if not 2 <= len(z) <= MOST:
        return None
    chosen = np.sort(np.random.default_rng(seed).permutation(len(z))[:SAMPLE])
    among = z[chosen]
    squares = np.einsum("nd,nd->n", among, among)
    found = np.empty(len(z), np.float32)
    count = min(NEAREST, len(chosen) - 1)
    for start in range(0, len(z), CHUNK):
        part = z[start : start + CHUNK]
        away = squares - 2 * (part @ among.T) + np.einsum("nd,nd->n", part, part)[:, None]
        own = np.searchsorted(chosen, np.arange(start, start + len(part)))
        is_own = (own < len(chosen)) & (chosen[np.minimum(own, len(chosen) - 1)] == np.arange(start, start + len(part)))
        away[is_own, own[is_own]] = np.inf
        near = np.partition(away, count - 1, axis=1)[:, :count]
        found[start : start + len(part)] = np.sqrt(np.maximum(near, 0)).mean(axis=1)
    return found


def worth(signals: Sequence[np.ndarray]) -> np.ndarray | None:
    """One number a cell: the mean rank of its signals, each the higher, the more it is worth a look.

    Args:
        signals: (n,) float, NaN where a signal says nothing of a cell.

    Returns:
        (n,) float32 in [0, 1], NaN where no signal says anything; None without signals.
    """
    if not signals:
        return None
    ranks = np.stack([pd.Series(one).rank(pct=True).to_numpy() for one in signals])
    told = np.isfinite(ranks)
    count = told.sum(axis=0)
    total = np.where(told, ranks, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
