"""Embeddings drawn in two or three dimensions, by UMAP or t-SNE, or the reason why there is nothing to draw."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Kind = Literal["UMAP", "t-SNE"]

MAX_CELLS = 3000  # t-SNE of 3,000 cells takes seconds, and more points hide each other
MIN_CELLS = 10  # fewer make no picture
NEIGHBOURS, PERPLEXITY = 15, 30.0  # the defaults of umap-learn and scikit-learn


@dataclass(frozen=True)
class Projection:
    """Points to draw.

    Attributes:
        kind: "UMAP" or "t-SNE".
        rows: (m,) int, ascending, the rows of the embedding that are drawn.
        points: (m, 2) or (m, 3) float32, finite.
        reason: Why nothing is drawn; "" where points are.
        left_out: Rows that were not drawn because they hold values that are not finite.
    """

    kind: Kind
    rows: np.ndarray
    points: np.ndarray
    reason: str = ""
    left_out: int = 0


def project(
    z: np.ndarray,
    domain: np.ndarray,
    max_cells: int = MAX_CELLS,
    seed: int = 0,
    dimensions: int = 2,
    kind: Kind = "UMAP",
) -> Projection:
    """Project embeddings to two or three dimensions.

    Of more than `max_cells` cells a fixed random choice is drawn, as even over the domains as their sizes allow. Both
    methods look at ratios of distances alone, so the embedding is centred and scaled as a whole first.

    Args:
        z: (n, d) float; rows that are not finite are left out.
        domain: (n,) names.
        dimensions: 2 or 3; the same cells are drawn in both.

    Returns:
        The points, or none and the reason: fewer than ten cells, or cells that are all equal.
    """
    finite = np.flatnonzero(np.isfinite(z).all(axis=1))
    left_out = len(z) - len(finite)

    def nothing(reason: str) -> Projection:
        return Projection(kind, finite[:0], np.empty((0, dimensions), np.float32), reason, left_out)

    if len(finite) < MIN_CELLS:
        beside = f" ({left_out} more have values that are not finite)" if left_out else ""
        return nothing(f"{len(finite)} cell{'' if len(finite) == 1 else 's'}, {MIN_CELLS} are needed{beside}")
    rows = finite[_thinned(domain[finite], max_cells, seed)]
    scaled = _scaled(z[rows])
    if scaled is None:
        return nothing(f"the embeddings of all {len(rows)} cells are equal: the method has collapsed")
    points = {"UMAP": _umap, "t-SNE": _tsne}[kind](scaled, dimensions, seed)
    if not np.isfinite(points).all():
        return nothing(f"{kind} found no positions for these {len(rows)} cells")
    return Projection(kind, rows, points, left_out=left_out)


def _thinned(domain: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    shuffled = pd.Series(domain).sample(frac=1, random_state=seed)
    turn = shuffled.groupby(shuffled).cumcount().sort_values(kind="stable")  # the first of each domain, the second, ...
    return np.sort(turn.index.to_numpy()[:max_cells])


def _scaled(z: np.ndarray) -> np.ndarray | None:
    """Centred, with a largest absolute value of 1, at least three columns; None where all rows are equal.

    t-SNE divides by the spread of the first principal component: of equal rows that is 0 / 0, and the neighbour search
    on the result ends the process.
    """
    double = z.astype(np.float64)
    largest = np.abs(double).max(initial=0.0)
    centred = double / largest if largest else double
    centred = centred - centred.mean(axis=0)
    spread = np.abs(centred).max(initial=0.0)
    if spread <= 4 * np.finfo(np.float32).eps:  # embeddings are float32: less is rounding
        return None
    scaled = (centred / spread).astype(np.float32)
    return np.pad(scaled, ((0, 0), (0, max(0, 3 - scaled.shape[1]))))


def _umap(z: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits
    from umap import UMAP

    number = min(NEIGHBOURS, len(z) - 1)
    near: tuple = (None, None, None)  # UMAP looks for them: quick among many cells
    if len(z) <= MAX_CELLS:  # among few it sorts all distances, by code that it compiles for 5 s in every process
        distances, rows = NearestNeighbors(n_neighbors=number).fit(z).kneighbors(z)
        near = rows, distances.astype(np.float32), None
    # UMAP's compiler leaves PyTorch with a thread a core, whatever OMP_NUM_THREADS says: the limit puts it back
    with warnings.catch_warnings(), threadpool_limits(1, "openmp"):
        warnings.filterwarnings("ignore", module="umap")  # equal cells make graphs in several parts: drawn apart
        fitted = UMAP(number, dimensions, random_state=seed, n_jobs=1, precomputed_knn=near)
        return np.asarray(fitted.fit_transform(z), np.float32)


def _tsne(z: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(z) - 1) / 3)
    tsne = TSNE(dimensions, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, n_jobs=-1)
    return np.asarray(tsne.fit_transform(z), np.float32)
