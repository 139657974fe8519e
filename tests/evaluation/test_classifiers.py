from __future__ import annotations

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
