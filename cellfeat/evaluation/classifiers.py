"""The classifiers that embeddings are judged by: the paper's random forest, a linear probe and nearest neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellfeat.evaluation.config import ClassifierName, EvaluationConfig, ProtocolName

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin


class BalancedNeighbours(KNeighborsClassifier):
    """Nearest neighbours whose votes count the more, the rarer their class is among the learned cells."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> BalancedNeighbours:
        """Learn the cells, and how often each class occurs."""
        super().fit(X, y)
        self.frequency_ = np.array([(y == name).mean() for name in self.classes_])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, k): shares of the weighted votes."""
        votes = super().predict_proba(X) / self.frequency_
        return votes / votes.sum(axis=1, keepdims=True)


@contextmanager
def own_warning_filters() -> Iterator[None]:
    """Keep the process's warning filters safe from a forest's threads, and have at least one of them.

    scikit-learn's threads swap the global filters; where they leave them empty, each tree of each later forest warns.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sklearn.utils.parallel.delayed")
        yield


def fit(
    name: ClassifierName, z: np.ndarray, label: np.ndarray, config: EvaluationConfig, protocol: ProtocolName, seed: int
) -> ClassifierMixin:
    """A classifier trained on embeddings (n, d) and class names (n,); its `predict_proba` gives (m, k).

    "forest" has the trees and depth of `config` (protocol `code`: its own trees); "linear" is a logistic regression
    (L2, C = 1), "knn" the `config.neighbours` nearest cells by Euclidean distance, both on dimensions standardised by
    the learned cells. `config.balanced` gives every class the same weight, however many cells it has.
    """
    weight = "balanced" if config.balanced else None
    model: Any
    if name == "forest":
        size = config.forest_size(protocol)
        model = RandomForestClassifier(size, max_depth=config.depth, class_weight=weight, random_state=seed, n_jobs=-1)
    elif name == "linear":
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight=weight, max_iter=5000))
    else:
        kind = BalancedNeighbours if config.balanced else KNeighborsClassifier
        model = make_pipeline(StandardScaler(), kind(min(config.neighbours, len(z))))
    with own_warning_filters():
        model.fit(z, label)
    if name == "forest":
        model.n_jobs = 1  # threads add up the votes in varying order, which breaks near-ties at random
    return model
