"""Confusion matrices and the three numbers that are read off them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Count cells by true class (rows) and predicted class (columns), both in the order of `classes`.

    Args:
        true: (n,) class names, all among `classes`.
        predicted: (n,) class names, all among `classes`.
        classes: The k class names.

    Returns:
        (k, k) int64.
    """
    order = np.argsort(np.asarray(classes))
    rows, columns = (order[np.searchsorted(np.asarray(classes)[order], names)] for names in (true, predicted))
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro-F1, as fractions.

    Balanced accuracy is the mean recall, macro-F1 the mean F1, over the classes that occur among the true ones: every
    class counts the same, however rare.

    Args:
        confusion: (k, k) counts, rows true, columns predicted, at least one cell.
    """
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = true > 0
    recall = hits[present] / true[present]
    f1 = 2 * hits[present] / (true + predicted)[present]
    return {
        "accuracy": float(hits.sum() / confusion.sum()),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }


def chance_scores(confusion: np.ndarray) -> dict[str, float]:
    """The scores of the best constant answer: every cell called by the commonest of the true classes."""
    constant = np.zeros_like(confusion)
    true = confusion.sum(axis=1)
    constant[:, true.argmax()] = true
    return scores(constant)
