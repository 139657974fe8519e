"""Confusion matrices, the three numbers that are read off them, and how sure these are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
CHUNK = 100  # resamples at a time: 15 MB for 18,000 cells


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Count cells by true class (rows) and predicted class (columns), both in the order of `classes`.

    Args:
        true: (n,) class names, all among `classes`.
        predicted: (n,) class names, all among `classes`.
        classes: The k class names.

    Returns:
        (k, k) int64.
    """
    k = len(classes)
    return np.bincount(_pairs(true, predicted, classes), minlength=k * k).reshape(k, k)


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro-F1, as fractions.

    Balanced accuracy is the mean recall, macro-F1 the mean F1, over the classes that occur among the true ones: every
    class counts the same, however rare.

    Args:
        confusion: (k, k) counts, rows true, columns predicted, at least one cell.
    """
    return {name: float(value) for name, value in _scores(confusion).items()}


def chance_scores(confusion: np.ndarray) -> dict[str, float]:
    """The scores of the best constant answer: every cell called by the commonest of the true classes."""
    constant = np.zeros_like(confusion)
    true = confusion.sum(axis=1)
    constant[:, true.argmax()] = true
    return scores(constant)


def bootstrap(
    true: np.ndarray,
    predicted: Sequence[np.ndarray],
    classes: Sequence[str],
    resamples: int,
    units: np.ndarray,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The scores of the same predictions on other draws of as many patients (or images), with replacement.

    Cells of one patient are not independent, so a patient is drawn with all its cells or not at all. The draws depend
    on the units and the seed alone: methods scored on the same cells are drawn alike.

    Args:
        true: (n,) class names.
        predicted: One (n,) array a run; a draw's score is the mean over the runs.
        classes: The k class names.
        units: (n,) what is drawn as a whole, see `cellfeat.data.split.units_of`.

    Returns:
        (resamples,) of each metric; their 2.5th and 97.5th percentile bound a 95 % interval.
    """
    k, rng = len(classes), np.random.default_rng(seed)
    names, unit = np.unique(units, return_inverse=True)
    even = np.full(len(names), 1 / len(names))
    codes = [_pairs(true, run, classes) for run in predicted]
    parts = []
    for start in range(0, resamples, CHUNK):
        drawn_units = rng.multinomial(len(names), even, min(CHUNK, resamples - start))
        counts = drawn_units[:, unit].astype(np.float32)
        drawn = np.stack([counts @ np.eye(k * k, dtype=np.float32)[code] for code in codes])  # (runs, chunk, k²)
        parts.append({name: value.mean(axis=0) for name, value in _scores(drawn.reshape(len(codes), -1, k, k)).items()})
    return {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in METRICS}


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of bootstrapped scores; NaN where there are none."""
    if not len(resampled):
        return float("nan"), float("nan")
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _pairs(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) int: k · number of the true class + number of the predicted one."""
    names = np.asarray(classes)
    order = np.argsort(names)
    rows, columns = (order[np.searchsorted(names[order], side)] for side in (true, predicted))
    return rows * len(classes) + columns


def _scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of each of (..., k, k) counts, (...)."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    true, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    present = true > 0
    recall = np.divide(hits, true, out=np.zeros(true.shape), where=present)
    f1 = np.divide(2 * hits, true + predicted, out=np.zeros(true.shape), where=present)
    return {
        "accuracy": hits.sum(axis=-1) / true.sum(axis=-1),
        "balanced_accuracy": recall.sum(axis=-1) / present.sum(axis=-1),
        "macro_f1": f1.sum(axis=-1) / present.sum(axis=-1),
    }
