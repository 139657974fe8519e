from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from cellfeat.evaluation.metrics import bootstrap, chance_scores, confusion_matrix, interval, scores


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


def test_the_bootstrapped_interval_is_about_the_binomial_one():
    true = np.array(["blast", "monocyte"])[np.arange(400) % 2]
    predicted = np.where(np.arange(400) < 80, "blast", true)  # 40 monocytes called blasts: 90 % right
    resampled = bootstrap(true, [predicted, predicted], ("blast", "monocyte"), 2000, np.arange(400))
    low, high = interval(resampled["accuracy"])
    half = 1.96 * np.sqrt(0.9 * 0.1 / 400)
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.006)
    exact = scores(confusion_matrix(true, predicted, ("blast", "monocyte")))
    assert {name: values.mean() for name, values in resampled.items()} == pytest.approx(exact, abs=0.005)


def test_cells_of_a_patient_are_drawn_together():
    true = np.array(["blast", "monocyte"])[np.arange(400) % 2]
    patient = np.array([f"patient {k // 40}" for k in range(400)])
    predicted = np.where(np.arange(400) < 80, true[::-1], true)  # all cells of two of the ten patients are wrong
    low, high = interval(bootstrap(true, [predicted], ("blast", "monocyte"), 2000, patient)["accuracy"])
    assert (low, high) == (0.5, 1.0)  # the binomial interval of 10, not of 400


def test_a_draw_without_a_class_leaves_it_out_of_the_mean():
    true, predicted = np.array(["a", "a", "b"]), np.array(["a", "a", "a"])
    resampled = bootstrap(true, [predicted], ("a", "b"), 200, np.arange(3))
    assert set(resampled["balanced_accuracy"]) == {0.0, 0.5, 1.0}


def test_without_resamples_there_is_no_interval():
    assert np.isnan(
        interval(bootstrap(np.array(["a"]), [np.array(["a"])], ("a",), 0, np.array(["p"]))["accuracy"])
    ).all()
