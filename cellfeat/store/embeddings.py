"""Embeddings: one vector a cell, one HDF5 file a method, tied to the store they were made from by its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellfeat.core.progress import Progress
from cellfeat.data.cell_ids import rows_of
from cellfeat.store.cell_matrix import Kind, read_matrix, write_matrix

if TYPE_CHECKING:
    import pandas as pd

    from cellfeat.store.reader import Store

KIND = Kind("cellfeat-embeddings", "1.0", "z", "", "an embeddings file", "embed")


@dataclass
class Embeddings:
    """Vectors of cells.

    Attributes:
        cell_id: (n,) str, unique.
        z: (n, d) float32, finite; row i belongs to cell_id[i].
        attributes: method, config (JSON text), store_digest, and whatever else the method told.
    """

    cell_id: np.ndarray
    z: np.ndarray
    attributes: dict[str, Any] = field(default_factory=dict)

    def of(self, cell_id: Sequence[str] | np.ndarray | pd.Series) -> np.ndarray:
        """The vectors of these cells, (m, d) float32.

        Raises:
            CellfeatError: One of them is not embedded.
        """
        method = self.attributes.get("method", "the")
        return self.z[rows_of(cell_id, self.cell_id, f"{method} embeddings", "embed the store again")]


def write_embeddings(
    path: str | Path, cell_id: Sequence[str] | np.ndarray, z: np.ndarray, attributes: dict[str, Any]
) -> None:
    """Write an embeddings file; it appears whole or not at all.

    Args:
        path: The file, by custom `embeddings/<method>.h5`.
        cell_id: (n,) cell ids, unique.
        z: (n, d) finite numbers, n and d at least 1; stored as float32.
        attributes: Strings, numbers or booleans; `method`, `config` and `store_digest` at least.

    Raises:
        CellfeatError: Anything else than the above.
    """
    write_matrix(Path(path), KIND, cell_id, z, (), attributes)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read and check an embeddings file.

    Raises:
        CellfeatError: The file is missing, damaged, something else, or of a newer major version.
    """
    content = read_matrix(Path(path), KIND)
    return Embeddings(content.cell_id, content.values, content.attributes)


def embed_batches(store: Store, title: str, size: int, embed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Embed every cell of a store, a batch at a time, so that memory does not grow with the store beyond the result.

    Args:
        title: Of the progress bar.
        size: Cells at a time.
        embed: Rows of the store (k,) int to their vectors (k, d).

    Returns:
        (len(store), d) float32, in the order of the store.
    """
    z = np.empty((0, 0), np.float32)
    with Progress(total=len(store), desc=title, unit="cell") as progress:
        for start in range(0, len(store), size):
            rows = np.arange(start, min(start + size, len(store)))
            batch = embed(rows)
            if not start:
                z = np.empty((len(store), batch.shape[1]), np.float32)
            z[rows] = batch
            progress.update(len(rows))
    return z
