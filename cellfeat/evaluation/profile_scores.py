"""How WBC-Profiler judges profiles: F1 and confusions of a linear machine over random halves, ranked signatures.

Source: Yan et al., "WBC-Profiler: an unsupervised feature learning system for leukocytes characterization and
classification" (2018): half-half cross-validation with 10 iterations, 50 % of the data of each cell type for training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cellfeat.data.split import folds
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.metrics import confusion_matrix

REPETITIONS = 10  # the article's iterations
TREES = 200  # the AE-CFE paper's forest; WBC-Profiler does not state its own


@dataclass(frozen=True)
class Halves:
    """What came out of the halvings.

    Attributes:
        f1: One row a class and one, "macro", of their mean: label, cells, f1 (mean), sd (over the halvings).
        classes: The k classes.
        confusion: (k, k) float64, counts of the tested half, rows true, columns predicted, mean over the halvings.
    """

    f1: pd.DataFrame
    classes: tuple[str, ...]
    confusion: np.ndarray

    @property
    def macro(self) -> float:
        """Mean F1 over the classes and halvings."""
        return float(self.f1["f1"].iloc[-1])


def half_half(
    z: np.ndarray,
    label: np.ndarray,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    unit: np.ndarray | None = None,
) -> Halves:
    """A linear support vector machine that learns from one half of the cells and names the other, over random halves.

    Args:
        z: (n, d) profiles; they are z-scored by the learning half.
        label: (n,) classes, each of at least two cells.
        repetitions: Stratified halvings.
        seed: Of the halvings.
        unit: (n,) what no halving divides, such as the patient of each cell; each cell alone if None.

    Raises:
        CellfeatError: There are fewer than two classes, or one of a single cell.
    """
    classes, counts = np.unique(label, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        found = ", ".join(f"{name} {n}" for name, n in zip(classes.tolist(), counts.tolist())) or "none"
        raise CellfeatError(f"profiles: cells by class: {found}", "give at least two classes of at least two cells")
    scores, confusions = [], []
    if unit is None or len(np.unique(unit)) == len(unit):
        halves = list(StratifiedShuffleSplit(repetitions, test_size=0.5, random_state=seed).split(z, label))
    else:
        halves = [folds(label, unit, 2, seed + k)[0] for k in range(repetitions)]
    for learned, tested in halves:
        machine = make_pipeline(StandardScaler(), LinearSVC(random_state=seed))
        predicted = machine.fit(z[learned], label[learned]).predict(z[tested])
        scores.append(f1_score(label[tested], predicted, labels=classes, average=None, zero_division=0))
        confusions.append(confusion_matrix(label[tested], predicted, classes.tolist()))
    each = np.array(scores)
    each = np.column_stack([each, each.mean(1)])
    cells = [*counts.tolist(), len(label)]
    f1 = pd.DataFrame({"label": [*classes, "macro"], "cells": cells, "f1": each.mean(0), "sd": each.std(0, ddof=1)})
    return Halves(f1, tuple(classes.tolist()), np.mean(confusions, axis=0))


def rank_signatures(z: np.ndarray, label: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Dimensions of the profiles, those that contribute most first, by the impurity that they take from a forest.

    Returns:
        One row a dimension: signature (its number in z), importance (they add up to 1).
    """
    forest = RandomForestClassifier(TREES, random_state=seed, class_weight="balanced").fit(z, label)
    order = np.argsort(-forest.feature_importances_, kind="stable")
    return pd.DataFrame({"signature": order, "importance": forest.feature_importances_[order]})
