from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from known_stores import embed, separable
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier

from cellfeat.data.class_tree import class_tree
from cellfeat.data.split import stratified_split
from cellfeat.errors import CellfeatError
from cellfeat.evaluation import classifiers, cross_domain_table
from cellfeat.evaluation import table as module
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.metrics import METRICS

SMALL = {"runs": 2, "trees": 10}


def cells(sites: dict[str, dict[str, int]]) -> pd.DataFrame:
    rows = [
        (f"{site}/{label}{k}#0", site, label)
        for site, classes in sites.items()
        for label, n in classes.items()
        for k in range(n)
    ]
    return pd.DataFrame(rows, columns=["cell_id", "domain", "label"])


THREE = {"blast": 15, "eosinophil": 15, "lymphocyte": 15}
TABLE = cells({"a": THREE, "b": THREE, "bare": {"": 10}})


def accuracy(result: pd.DataFrame) -> dict[tuple[str, str], float]:
    return result[result["metric"] == "accuracy"].set_index(["train", "test"])["mean"].to_dict()


@pytest.mark.parametrize("protocol", ["paper", "code"])
def test_separable_classes_are_named_rightly_everywhere(protocol):
    result = cross_domain_table(embed(TABLE, separable(TABLE)), TABLE, protocol, **SMALL)
    assert list(result.columns) == list(module.COLUMNS)
    assert len(result) == 2 * 2 * 5  # the domain without labels takes no part
    scored = result["metric"].isin(METRICS)
    assert (result[scored][["mean", "low", "high"]] == 1).all(axis=None)
    assert result[~scored][["low", "high", "chance"]].isna().all(axis=None)
    assert set(result["runs"]) == {2 if protocol == "paper" else 1}
    assert result["sd"].isna().all() if protocol == "code" else (result[scored]["sd"] == 0).all()
    assert set(result[result["metric"] == "accuracy"]["chance"]) != {1.0}


def test_a_shifted_domain_fails_only_across():
    result = cross_domain_table(embed(TABLE, separable(TABLE, {"b": 1})), TABLE, **SMALL)
    assert accuracy(result) == {("a", "a"): 1, ("b", "b"): 1, ("a", "b"): 0, ("b", "a"): 0}


@pytest.mark.parametrize("classifier", ["linear", "knn"])
def test_other_classifiers_are_run_once(classifier):
    result = cross_domain_table(embed(TABLE, separable(TABLE, {"b": 1})), TABLE, classifier=classifier, **SMALL)
    assert accuracy(result) == {("a", "a"): 1, ("b", "b"): 1, ("a", "b"): 0, ("b", "a"): 0}
    assert set(result["runs"]) == {1}
    assert set(result["classifier"]) == {classifier}


def test_runs_take_the_methods_seeds_in_turn():
    config, split = EvaluationConfig(runs=2, trees=5, bootstrap=10), stratified_split(TABLE)
    seeds = [separable(TABLE), separable(TABLE, {"b": 1})]
    pairs = module.score_pairs("m", seeds, TABLE, "paper", split, config)
    across = {(pair.train, pair.test): pair.by_run["accuracy"] for pair in pairs}
    assert across["a", "b"] == across["b", "a"] == [1, 0]


def test_domains_can_be_chosen_and_unknown_ones_are_named():
    split = stratified_split(TABLE)
    config = EvaluationConfig(runs=1, trees=2, domains=["b"])
    assert len(module.score_pairs("m", [separable(TABLE)], TABLE, "paper", split, config)) == 1
    with pytest.raises(CellfeatError, match="'bare' has no labelled cell in the store; choose from a, b"):
        module.score_pairs("m", [separable(TABLE)], TABLE, "paper", split, EvaluationConfig(domains=["bare"]))


def test_noise_is_near_chance():
    noise = np.random.default_rng(0).normal(size=(len(TABLE), 3))
    result = cross_domain_table(embed(TABLE, noise), TABLE, "code", **SMALL)
    assert accuracy(result)["a", "b"] == pytest.approx(1 / 3, abs=0.2)
    assert set(result[(result["metric"] == "accuracy") & (result["train"] != result["test"])]["chance"]) == {1 / 3}


def test_rows_are_matched_by_cell_id():
    one = embed(TABLE, separable(TABLE))
    order = np.random.default_rng(0).permutation(len(TABLE))
    one.cell_id, one.z = one.cell_id[order], one.z[order]
    assert set(accuracy(cross_domain_table(one, TABLE, **SMALL)).values()) == {1.0}


def test_under_paper_all_classes_are_learned_and_the_whole_test_part_is_scored():
    table = cells({"a": {"blast": 20, "eosinophil": 20, "monocyte": 20}, "b": {"blast": 20, "basophil": 60}})
    result = cross_domain_table(embed(table, separable(table)), table, "paper", **SMALL)
    rows = result.drop_duplicates(["train", "test"]).set_index(["train", "test"])
    assert rows["classes"]["a", "b"] == "basophil;blast;eosinophil;monocyte"
    assert rows["unlearned"]["a", "b"] == "basophil"
    assert rows["n_train"]["a", "b"] == 48
    assert rows["n_test"]["a", "b"] == 16
    assert 0 < accuracy(result)["a", "b"] <= 4 / 16  # basophils cannot be named rightly
    shared = cross_domain_table(embed(table, separable(table)), table, "shared", **SMALL)
    reasons = shared.drop_duplicates(["train", "test"]).set_index(["train", "test"])["reason"]
    assert reasons["a", "b"] == "1 shared class, two are needed"


@pytest.mark.parametrize("protocol", ["paper", "shared"])
def test_domains_are_compared_at_the_finest_level_that_both_have(protocol):
    tree = class_tree({"neutrophil": "", "neutrophil_band": "neutrophil", "neutrophil_segmented": "neutrophil"}, "")
    table = cells(
        {
            "a": {"neutrophil_band": 10, "neutrophil_segmented": 10, "monocyte": 20},
            "b": {"neutrophil": 20, "monocyte": 20},
        }
    )
    z = np.array([[name.startswith("neutrophil"), name.endswith("band")] for name in table["label"]], float)
    config = EvaluationConfig(runs=1, trees=5, bootstrap=0)
    pairs = module.score_pairs("m", [z], table, protocol, stratified_split(table), config, tree)
    found = {(pair.train, pair.test): pair for pair in pairs}
    assert found["a", "b"].classes == found["b", "a"].classes == ("monocyte", "neutrophil")
    assert found["a", "a"].classes == ("monocyte", "neutrophil_band", "neutrophil_segmented")
    assert {place: pair.by_run["accuracy"] for place, pair in found.items()} == {place: [1] for place in found}


def test_paper_and_shared_are_the_same_where_domains_have_the_same_classes():
    noise = embed(TABLE, np.random.default_rng(0).normal(size=(len(TABLE), 3)))
    paper, shared = (cross_domain_table(noise, TABLE, protocol, **SMALL) for protocol in ("paper", "shared"))
    pd.testing.assert_frame_equal(paper.drop(columns="protocol"), shared.drop(columns="protocol"))


def test_only_shared_classes_enter_a_pair():
    table = cells(
        {"a": {"blast": 20, "eosinophil": 20, "monocyte": 20}, "b": {"blast": 20, "eosinophil": 20, "basophil": 20}}
    )
    z = np.random.default_rng(0).normal(size=(len(table), 3))
    rows = cross_domain_table(embed(table, z), table, "shared", **SMALL).drop_duplicates(["train", "test"])
    rows = rows.set_index(["train", "test"])
    assert rows["classes"]["a", "b"] == rows["classes"]["b", "a"] == "blast;eosinophil"
    assert rows["classes"]["a", "a"] == "blast;eosinophil;monocyte"
    assert rows["n_test"]["a", "b"] == 8  # the test part, less the class that is not shared


def test_pairs_that_cannot_be_scored_say_why():
    table = cells(
        {"a": {"blast": 20, "eosinophil": 20}, "b": {"blast": 20, "monocyte": 20}, "c": {"monocyte": 2, "blast": 2}}
    )
    result = cross_domain_table(embed(table, np.zeros((len(table), 2))), table, "shared", **SMALL)
    rows = result.drop_duplicates(["train", "test"]).set_index(["train", "test"])
    assert len(rows) == 9
    assert rows["reason"]["a", "b"] == "1 shared class, two are needed"
    assert rows["reason"]["b", "c"] == "2 cells to score, 5 are needed"
    assert rows["reason"]["c", "b"] == "2 cells to train on, 5 are needed"
    assert rows["reason"]["b", "b"] == ""
    assert rows["mean"][rows["reason"] != ""].isna().all()


def spy(monkeypatch) -> list[tuple[set[int], set[int]]]:
    """Record, for every forest, which rows (column 0 numbers them) it learned from and was asked about."""
    seen: list[tuple[set[int], set[int]]] = []

    class Spy(RandomForestClassifier):
        def fit(self, X, y):
            self.learned_ = set(X[:, 0].astype(int))
            return super().fit(X, y)

        def predict_proba(self, X):
            seen.append((self.learned_, set(X[:, 0].astype(int))))
            return super().predict_proba(X)

    monkeypatch.setattr(classifiers, "RandomForestClassifier", Spy)
    return seen


@pytest.mark.parametrize("protocol", ["paper", "shared", "code"])
def test_no_forest_is_asked_about_a_cell_it_learned_from(monkeypatch, protocol):
    seen = spy(monkeypatch)
    cross_domain_table(embed(TABLE, np.arange(len(TABLE))[:, None]), TABLE, protocol, runs=1, trees=2)
    assert len(seen) == 4
    assert all(learned and asked and not learned & asked for learned, asked in seen)


def test_a_given_split_is_kept(monkeypatch):
    split = stratified_split(TABLE, 0.4, seed=9)
    seen = spy(monkeypatch)
    cross_domain_table(embed(TABLE, np.arange(len(TABLE))[:, None]), TABLE, "paper", split, runs=1, trees=2)
    tested = set(np.flatnonzero(((split == "test") & (TABLE["label"] != "").to_numpy()).to_numpy()))
    assert set.union(*(asked for _, asked in seen)) == tested
    assert not tested & set.union(*(learned for learned, _ in seen))


def test_code_scores_the_whole_other_domain(monkeypatch):
    seen = spy(monkeypatch)
    cross_domain_table(embed(TABLE, np.arange(len(TABLE))[:, None]), TABLE, "code")
    assert sorted(len(asked) for _, asked in seen) == [9, 9, 45, 45]
    assert {len(learned) for learned, _ in seen} == {36}


def test_a_domain_that_the_split_does_not_know_is_split_here():
    known = stratified_split(TABLE[TABLE["domain"] == "a"])
    result = cross_domain_table(embed(TABLE, separable(TABLE)), TABLE, "paper", known, **SMALL)
    assert set(result["n_test"]) == {9}


def test_a_split_that_knows_half_a_domain_is_refused():
    with pytest.raises(CellfeatError, match="lacks 44 of 45 cells of a"):
        cross_domain_table(embed(TABLE, separable(TABLE)), TABLE, "paper", stratified_split(TABLE)[:1], **SMALL)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda e: embed(TABLE[1:], e.z[1:]), "lacks 1 of 100 cells"),
        (
            lambda e: embed(TABLE.replace({"cell_id": {TABLE["cell_id"][0]: "other#0"}}), e.z),
            "lacks 1 of 100 cells",
        ),
        (lambda e: embed(TABLE.assign(cell_id=TABLE["cell_id"][0]), e.z), "occurs twice"),
        (lambda e: embed(TABLE, e.z * np.nan), "not finite"),
    ],
)
def test_embeddings_of_other_cells_are_refused(spoil, says):
    with pytest.raises(CellfeatError, match=says):
        cross_domain_table(spoil(embed(TABLE, separable(TABLE))), TABLE, **SMALL)


def test_two_runs_give_the_same_table():
    noise = embed(TABLE, np.random.default_rng(0).normal(size=(len(TABLE), 3)))
    pd.testing.assert_frame_equal(*(cross_domain_table(noise, TABLE, **SMALL) for _ in range(2)))


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError):
        EvaluationConfig(tree=5)
    with pytest.raises(ValidationError):
        cross_domain_table(embed(TABLE, separable(TABLE)), TABLE, "bootstrap")


def test_a_forest_learns_from_domains_that_are_pooled():
    """Two sites that each have half of the classes: pooled they teach all of a third's."""
    rng = np.random.default_rng(0)
    sites = {"a": ("blast", "eosinophil"), "b": ("lymphocyte", "monocyte"), "c": ("blast", "monocyte")}
    table = pd.DataFrame(
        [(f"{site}/{name}{k}#0", site, name) for site, names in sites.items() for name in names for k in range(20)],
        columns=["cell_id", "domain", "label"],
    )
    z = np.eye(4)[np.unique(table["label"], return_inverse=True)[1]] + rng.normal(0, 0.05, (120, 4))
    rows = cross_domain_table(embed(table, z), table, train=[["b", "a"]], **SMALL)
    rows = rows[rows["metric"] == "accuracy"].set_index("test")
    assert set(rows["train"]) == {"a + b"}
    assert rows["where"].to_dict() == {"a": "within", "b": "within", "c": "across"}
    assert rows["mean"].to_dict() == {"a": 1, "b": 1, "c": 1}
    assert rows["n_train"].to_dict() == {"a": 64, "b": 64, "c": 64}
    left_out = cross_domain_table(embed(table, z), table, train="leave-one-out", **SMALL)
    assert set(zip(left_out["train"], left_out["test"])) == {("b + c", "a"), ("a + c", "b"), ("a + b", "c")}
    assert set(left_out["where"]) == {"across"}
