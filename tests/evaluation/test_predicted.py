from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cellfeat.data.class_tree import class_tree
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.leaderboard import leaderboard, leaderboard_line
from cellfeat.evaluation.predicted import predicted_pairs
from cellfeat.store import Predictions

CONFIG = EvaluationConfig(protocols=["paper"], bootstrap=50)
SITES = {"a": ("blast", "eosinophil", "monocyte"), "b": ("blast", "eosinophil")}
TABLE = pd.DataFrame(
    [(f"{site}/{label}{k}#0", site, label) for site, labels in SITES.items() for label in labels for k in range(10)],
    columns=["cell_id", "domain", "label"],
)
SPLIT = pd.Series(["train"] * 5 + ["test"] * 5, index=range(10)).pipe(
    lambda part: pd.Series(list(part) * 5, index=TABLE["cell_id"])
)
CLASSES = np.array(["blast", "eosinophil", "monocyte"])


def predictions(right: float) -> Predictions:
    """Every cell: `right` for its class, the rest for monocyte (or, of a monocyte, for blast)."""
    true = np.searchsorted(CLASSES, TABLE["label"])
    probabilities = np.eye(3)[true] * right
    probabilities[np.arange(50), np.where(true == 2, 0, 2)] += 1 - right
    return Predictions(TABLE["cell_id"].to_numpy(str), CLASSES, probabilities, {"method": "mdd"})


def all_pairs(*runs: Predictions) -> dict[tuple[str, str], list[Predictions]]:
    return {(train, test): list(runs) for train in "ab" for test in "ab"}


def test_only_shared_classes_count_and_others_are_left_out():
    pairs = {
        (pair.train, pair.test): pair
        for pair in predicted_pairs("mdd", all_pairs(predictions(0.4)), TABLE, "shared", SPLIT, CONFIG)
    }
    assert pairs["a", "b"].classes == ("blast", "eosinophil")
    assert pairs["a", "b"].by_run["accuracy"] == [1]  # among the two, the 0.6 for monocytes is no answer
    assert pairs["a", "a"].by_run["accuracy"] == [0]
    np.testing.assert_allclose(pairs["a", "b"].probabilities[0].sum(axis=1), 1)
    assert {pair.classifier for pair in pairs.values()} == {"own"}
    assert pairs["a", "b"].n_test == 10


def test_under_paper_every_class_counts_and_is_scored():
    pairs = {
        (pair.train, pair.test): pair
        for pair in predicted_pairs("mdd", all_pairs(predictions(0.4)), TABLE, "paper", SPLIT, CONFIG)
    }
    assert pairs["a", "b"].classes == ("blast", "eosinophil", "monocyte")
    assert pairs["a", "b"].by_run["accuracy"] == [0]  # every cell is called a monocyte
    assert pairs["b", "a"].unlearned == ["monocyte"]
    assert pairs["b", "a"].n_test == 15


def test_probabilities_of_finer_classes_add_up():
    tree = class_tree({"white": "", "blast": "white", "eosinophil": "white"}, "")
    table = TABLE.assign(label=TABLE["label"].where(TABLE["domain"] == "a", "white"))
    predicted = predicted_pairs("mdd", all_pairs(predictions(0.4)), table, "paper", SPLIT, CONFIG, tree)
    pair = next(pair for pair in predicted if (pair.train, pair.test) == ("a", "b"))
    assert pair.classes == ("monocyte", "white")
    np.testing.assert_allclose(pair.probabilities[0], [[0.6, 0.4]] * 10, atol=1e-6)


def test_the_leaderboard_takes_means_over_pairs_and_sd_over_runs():
    good = predicted_pairs("good", all_pairs(predictions(0.9), predictions(0.9)), TABLE, "shared", SPLIT, CONFIG)
    mixed = predicted_pairs("mixed", all_pairs(predictions(0.9), predictions(0.1)), TABLE, "shared", SPLIT, CONFIG)
    measured = [
        {"domain_accuracy": x, "domain_chance": 0.5, "silhouette_class": 0, "silhouette_domain": 0} for x in (0.6, 0.8)
    ]
    board = leaderboard([leaderboard_line(mixed, measured), leaderboard_line(good, [])])
    assert board["method"].tolist() == ["good", "mixed"]
    line = board.iloc[1]
    within = [np.mean([pair.by_run["accuracy"][k] for pair in mixed if pair.train == pair.test]) for k in (0, 1)]
    assert line["within_accuracy"] == pytest.approx(np.mean(within))
    assert line["within_accuracy_sd"] == pytest.approx(np.std(within, ddof=1))
    assert line["within_accuracy_low"] <= line["within_accuracy"] <= line["within_accuracy_high"]
    assert line["domain_accuracy"] == pytest.approx(0.7)
    assert board.iloc[0]["across_accuracy"] == 1
    assert np.isnan(board.iloc[0]["domain_accuracy"])


def test_predictions_that_lack_a_cell_are_refused():
    one = predictions(0.9)
    one.cell_id, one.probabilities = one.cell_id[:-1], one.probabilities[:-1]
    with pytest.raises(CellfeatError, match="lacks 1 of 10 cells, the first is 'b/eosinophil9#0'"):
        predicted_pairs("mdd", all_pairs(one), TABLE, "shared", SPLIT, CONFIG)
