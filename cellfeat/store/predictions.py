"""Predictions: the probability of each class for each cell, one HDF5 file a fitted classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.store.cell_matrix import Kind, read_matrix, write_matrix

KIND = Kind("cellfeat-predictions", "1.0", "probabilities", "classes", "a predictions file", "predict")
TOLERANCE = 1e-3  # by which a cell's probabilities may miss 1: a softmax in half precision


@dataclass
class Predictions:
    """What cells are called.

    Attributes:
        cell_id: (n,) str, unique; any cells of the store, in any order.
        classes: (k,) str, unique.
        probabilities: (n, k) float32 in [0, 1], each row adds up to 1.
        attributes: method, config (JSON text), store_digest, and whatever else the method told.
    """

    cell_id: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """(n,) str: the most probable class of each cell."""
        return self.classes[self.probabilities.argmax(axis=1)]


def write_predictions(
    path: str | Path,
    cell_id: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    probabilities: np.ndarray,
    attributes: dict[str, Any],
) -> None:
    """Write a predictions file; it appears whole or not at all.

    Args:
        path: The file, by custom `predictions/<method>.h5`.
        cell_id: (n,) cell ids, unique.
        classes: The k classes, unique.
        probabilities: (n, k) in [0, 1], rows adding up to 1; stored as float32.
        attributes: Strings, numbers or booleans; `method`, `config` and `store_digest` at least.

    Raises:
        CellfeatError: Anything else than the above.
    """
    _check(Path(path), np.asarray(probabilities))
    write_matrix(Path(path), KIND, cell_id, probabilities, classes, attributes)


def read_predictions(path: str | Path) -> Predictions:
    """Read and check a predictions file.

    Raises:
        CellfeatError: The file is missing, damaged, something else, or of a newer major version.
    """
    content = read_matrix(Path(path), KIND)
    _check(Path(path), content.values)
    return Predictions(content.cell_id, content.columns, content.values, content.attributes)


def _check(path: Path, probabilities: np.ndarray) -> None:
    total = probabilities.sum(axis=-1, dtype=np.float64)
    if (probabilities < 0).any() or (abs(total - 1) > TOLERANCE).any():
        raise CellfeatError(f"{path}: probabilities are negative or do not add up to 1 in each row; apply a softmax")
