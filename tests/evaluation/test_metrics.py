from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from cellfeat.evaluation.metrics import chance_scores, confusion_matrix, scores


def test_counts_and_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    classes = ("monocyte", "blast", "eosinophil")  # not in alphabetical order
    true, predicted = rng.choice(classes, 200, p=[0.6, 0.3, 0.1]), rng.choice(classes, 200)
    counts = confusion_matrix(true, predicted, classes)
    np.testing.assert_array_equal(counts, oracle.confusion_matrix(true, predicted, labels=list(classes)))
    assert scores(counts) == pytest.approx(
        {
            "accuracy": oracle.accuracy_score(true, predicted),
            "balanced_accuracy": oracle.balanced_accuracy_score(true, predicted),
            "macro_f1": oracle.f1_score(true, predicted, average="macro"),
        }
    )


def test_chance_is_the_commonest_class():
    chance = chance_scores(np.array([[6, 2], [1, 1]]))
    assert chance == pytest.approx({"accuracy": 0.8, "balanced_accuracy": 0.5, "macro_f1": (16 / 18) / 2})
