"""Embeddings flattened to the dimensions of a page: by UMAP where umap-learn is installed, else by t-SNE."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd

MAX_CELLS = 3000
MIN_CELLS = 10  # fewer make no picture
PROJECTION = "UMAP" if find_spec("umap") else "t-SNE"


def project(
    z: np.ndarray, domain: np.ndarray, max_cells: int = MAX_CELLS, seed: int = 0, dimensions: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Project embeddings to 2-D or 3-D, by `PROJECTION`.

    Of more than `max_cells` cells a fixed random choice is shown, as even over the domains as their sizes allow.

    Args:
        z: (n, d) float, finite.
        domain: (n,) names.
        dimensions: 2 or 3; the same cells are shown in both.

    Returns:
        rows: (m,) int, ascending, the rows of `z` that are shown.
        xy: (m, dimensions) float32; none, and no rows, where fewer than ten cells leave nothing to show.
    """
    if len(z) < MIN_CELLS:
        return np.empty(0, np.int64), np.empty((0, dimensions), np.float32)
    shuffled = pd.Series(domain).sample(frac=1, random_state=seed)
    turn = shuffled.groupby(shuffled).cumcount().sort_values(kind="stable")  # the first of each domain, the second, ...
    rows = np.sort(turn.index.to_numpy()[:max_cells])
    chosen = z[rows].astype(np.float32)
    if PROJECTION == "UMAP":
        from umap import UMAP

        neighbours = min(15, len(rows) - 1)
        umap = UMAP(n_components=dimensions, n_neighbors=neighbours, random_state=seed, n_jobs=1)
        return rows, umap.fit_transform(chosen)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(dimensions, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, n_jobs=-1)
    return rows, tsne.fit_transform(chosen)
