from __future__ import annotations

import warnings

import numpy as np
import pytest

from cellfeat.evaluation import EvaluationConfig, classifiers

RNG = np.random.default_rng(0)
Z = np.concatenate([RNG.normal(0, 1, (90, 2)), RNG.normal(1.5, 1, (10, 2))])
LABEL = np.array(["common"] * 90 + ["rare"] * 10)


@pytest.mark.parametrize("name", ["forest", "linear", "knn"])
def test_balance_finds_more_of_the_rare_class(name):
    def recall(balanced: bool) -> float:
        config = EvaluationConfig(trees=20, depth=2, neighbours=15, balanced=balanced)
        probabilities = classifiers.fit(name, Z, LABEL, config, "paper", 0).predict_proba(Z)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        return float((probabilities.argmax(axis=1) == 1)[LABEL == "rare"].mean())

    assert recall(True) > recall(False)


def test_neighbours_are_no_more_than_there_are():
    model = classifiers.fit("knn", Z[88:92], LABEL[88:92], EvaluationConfig(), "paper", 0)
    np.testing.assert_allclose(model.predict_proba(Z[:1]), [[0.5, 0.5]])


def test_no_tree_warns_where_the_process_has_lost_its_warning_filters(monkeypatch, recwarn):
    monkeypatch.setattr(warnings, "filters", [])  # as scikit-learn's threads may leave them
    z = np.random.default_rng(0).random((40, 3))
    classifiers.fit("forest", z, np.array(["a", "b"] * 20), EvaluationConfig(trees=4), "paper", 0)
    assert not [warning for warning in recwarn if "parallel" in str(warning.message)]
