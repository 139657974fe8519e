"""The cross-domain table: classifiers trained on one domain's embeddings and scored on each domain's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cellfeat.core.progress import Progress
from cellfeat.data.cell_ids import parts_of
from cellfeat.data.class_tree import THE_CLASSES, ClassTree
from cellfeat.data.model_selection import prediction_entropy, soft_neighbourhood_density
from cellfeat.data.split import units_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation import classifiers
from cellfeat.evaluation.config import ClassifierName, EvaluationConfig, ProtocolName
from cellfeat.evaluation.metrics import METRICS, bootstrap, chance_scores, confusion_matrix, interval, scores
from cellfeat.evaluation.protocol import (
    CLASSES,
    Classes,
    Training,
    Where,
    complete_split,
    members,
    reference_split,
    trainings,
)

if TYPE_CHECKING:
    from cellfeat.store import Embeddings

COLUMNS = (
    *("method", "classifier", "protocol", "train", "test", "where", "metric"),
    *("mean", "sd", "low", "high", "runs", "chance", "n_train", "n_test", "classes", "unlearned", "reason"),
)


@dataclass
class Pair:
    """What a classifier is trained on and the domain that it is scored on.

    Attributes:
        classifier: Its name; "own" where the method itself predicts.
        train: The name of a `Training`: a domain, or several that are pooled.
        where: "within" if the scored domain is one that was trained on, else "across".
        classes: The k classes that are learned or scored, in alphabetical order.
        learned_classes: Those of them that are learned.
        n_train: Cells that are learned from.
        n_test: Cells that are scored.
        reason: Why the pair was not evaluated; "" where it was.
        true: (n_test,) classes of the scored cells.
        units: (n_test,) whose they are: the patient where known, else the image.
        probabilities: One (n_test, k) array a run, in the order of `classes`.
        resamples: Bootstrap resamples of these units.
        level: Label to the class that the pair compares it as, where the domains label at different levels.
    """

    method: str
    classifier: str
    protocol: ProtocolName
    train: str
    test: str
    where: Where
    classes: tuple[str, ...]
    learned_classes: tuple[str, ...]
    n_train: int
    n_test: int
    reason: str
    true: np.ndarray
    units: np.ndarray
    resamples: int
    level: dict[str, str] = field(default_factory=dict)
    probabilities: list[np.ndarray] = field(default_factory=list)

    def add(self, classes: Sequence[str], probabilities: np.ndarray) -> None:
        """Add a run: (n_test, m) probabilities of m classes, those of one class of the comparison added up.

        Classes that take no part in this pair are left out. What is left is scaled to add up to 1, evenly over the
        learned classes where nothing is left.
        """
        chosen = np.zeros((len(probabilities), len(self.classes)))
        for k, name in enumerate(classes):
            if (compared := self.level.get(name, name)) in self.classes:
                chosen[:, self.classes.index(compared)] += probabilities[:, k]
        chosen[:, [name in self.learned_classes for name in self.classes]] += np.finfo(np.float32).tiny
        self.probabilities.append(chosen / chosen.sum(axis=1, keepdims=True))

    @cached_property
    def unlearned(self) -> list[str]:
        """Classes of the scored cells that the classifier never saw: none of these cells can be named rightly."""
        return sorted(set(self.true) - set(self.learned_classes))

    @cached_property
    def predicted(self) -> list[np.ndarray]:
        """What the cells are called in each run: (n_test,) class names."""
        return [np.asarray(self.classes)[run.argmax(axis=1)] for run in self.probabilities]

    @cached_property
    def confusions(self) -> list[np.ndarray]:
        """One (k, k) count matrix a run, rows true, columns predicted, in the order of `classes`."""
        return [confusion_matrix(self.true, run, self.classes) for run in self.predicted]

    @cached_property
    def by_run(self) -> dict[str, list[float]]:
        """Each metric's value in each run."""
        runs = [scores(confusion) for confusion in self.confusions]
        values = {metric: [run[metric] for run in runs] for metric in METRICS}
        values["entropy"] = [prediction_entropy(run) for run in self.probabilities]
        values["snd"] = [soft_neighbourhood_density(run) for run in self.probabilities]
        return values

    @cached_property
    def resampled(self) -> dict[str, np.ndarray]:
        """Each metric's value on each bootstrap resample, as the mean over the runs."""
        return bootstrap(self.true, self.predicted, self.classes, self.resamples, self.units)


def cross_domain_table(
    embeddings: Embeddings | Sequence[Embeddings],
    table: pd.DataFrame,
    protocol: ProtocolName = "paper",
    split: pd.Series | None = None,
    runs: int = 5,
    trees: int = 200,
    depth: int = 16,
    seed: int = 0,
    min_cells: int = 5,
    classifier: ClassifierName = "forest",
    balanced: bool = False,
    train: Literal["each", "leave-one-out"] | list[list[str]] = "each",
    tree: ClassTree = THE_CLASSES,
) -> pd.DataFrame:
    """Score embeddings within and across domains.

    Cells are matched by cell_id. Unlabelled cells take no part.

    Args:
        embeddings: One method's embeddings, or several methods'.
        table: One row a cell, with columns cell_id, domain, label ("" where unknown), as `Store.table()` returns it.
        protocol: "paper", "shared" or "code", see `cellfeat.evaluation.protocol`.
        split: "train" or "test" by cell_id, as the autoencoder was trained; made here if None. Not for `code`.
        runs: Forests per pair; `code` has one.
        trees: Trees of a forest; `code` has 100.
        depth: Largest depth of a tree.
        seed: Seed of the first forest and of the split made here; `code` has its own.
        min_cells: A pair with fewer cells to train on, or to score, is not evaluated.
        classifier: "forest", "linear" or "knn", see `cellfeat.evaluation.classifiers`.
        balanced: Whether every class has the same weight in training.
        train: What is learned from, see `EvaluationConfig`.

    Returns:
        One row for each method, pair of what is trained on and what is tested, and metric (accuracy,
        balanced_accuracy, macro_f1, all fractions, and entropy and snd, see `cellfeat.data.model_selection`): the
        columns method, classifier, protocol, train (pooled domains joined by " + "), test, where ("within" if the
        tested domain is one that was trained on, else "across"), metric, mean, sd (over runs; NaN for a single run),
        low and high (95 % interval over resamples of the tested patients or images), runs, chance (of the best
        constant answer), n_train, n_test, classes (learned or scored, joined by ";"), unlearned (scored and never
        learned) and reason ("" where evaluated, else why not).

    Raises:
        CellfeatError: The embeddings lack a cell of `table`, or `split` does not fit it.
    """
    config = EvaluationConfig(
        protocols=[protocol],
        classifiers=[classifier],
        balanced=balanced,
        train=train,
        runs=runs,
        trees=trees,
        depth=depth,
        seed=seed,
        min_cells=min_cells,
    )
    several = list(embeddings) if isinstance(embeddings, Sequence) else [embeddings]
    complete, _ = complete_split(table, split, config)
    scored = [
        score_pairs(method_of(one), [align(one, table)], table, protocol, complete, config, tree) for one in several
    ]
    return tidy([pair for pairs in scored for pair in pairs])


def score_pairs(
    method: str,
    embeddings: Sequence[np.ndarray],
    table: pd.DataFrame,
    protocol: ProtocolName,
    split: pd.Series,
    config: EvaluationConfig,
    tree: ClassTree = THE_CLASSES,
) -> list[Pair]:
    """Train and score the classifiers of one method under one protocol, for every pair of `trainings`.

    Args:
        embeddings: (n, d) in the order of `table`, one for each seed of the method; run k takes the k-th, and the
            classifier's seed k. A classifier that draws nothing at random is run once on a single embedding.
        split: "train" or "test" of every cell of `table`, indexed by cell_id; protocol `code` makes its own.
        tree: Classes and their parents; its own `classes` are for the caller to read, see `EvaluationConfig.tree`.
    """
    known = (table["label"] != "").to_numpy()
    labelled, zs = table[known], [z[known] for z in embeddings]
    parts = reference_split(labelled) if protocol == "code" else split
    part = parts_of(parts, labelled["cell_id"])
    domain, label = (labelled[name].to_numpy(str) for name in ("domain", "label"))
    units = units_of(labelled).to_numpy(str)

    pairs: list[Pair] = []
    planned = trainings(domain.tolist(), config)
    total = sum(len(one.tests) for one in planned) * len(config.classifiers)
    with Progress(total=total, desc=f"{method}, protocol {protocol}", unit="pair") as progress:
        for name in config.classifiers:
            seeds = config.run_seeds(protocol)
            if name != "forest":
                seeds = seeds[: len(zs)]
            for training in planned:
                by_classes = defaultdict(list)  # one classifier serves every test domain for which it learns the same
                for test in training.tests:
                    learned, scored = members(domain, part, training.sources, test, protocol)
                    who = (method, name, protocol, training, test)
                    pair, compared, learned, scored = new_pair(who, label, units, learned, scored, config, tree)
                    pairs.append(pair)
                    if not pair.reason:
                        taught = compared[learned]
                        by_classes[learned.tobytes(), taught.tobytes()].append((pair, scored, learned, taught))
                for group in by_classes.values():
                    _, _, learned, taught = group[0]
                    for k, seed in enumerate(seeds):
                        z = zs[k % len(zs)]
                        model = classifiers.fit(name, z[learned], taught, config, protocol, seed)
                        for pair, scored, *_ in group:
                            pair.add(model.classes_.tolist(), model.predict_proba(z[scored]))
                progress.update(len(training.tests))
    return pairs


def new_pair(
    who: tuple[str, str, ProtocolName, Training, str],
    label: np.ndarray,
    units: np.ndarray,
    learned: np.ndarray,
    scored: np.ndarray,
    config: EvaluationConfig,
    tree: ClassTree,
) -> tuple[Pair, np.ndarray, np.ndarray, np.ndarray]:
    """A pair without its runs, the class (n,) that it compares each cell as, and which cells are learned and scored.

    Sites that label at different levels are compared at the finest level that both have. Under `shared` cells
    of classes that the domains do not share are neither learned nor scored.

    Args:
        who: Method, classifier, protocol, what is trained on, and the scored domain.
        label: (n,) classes.
        units: (n,) the patient, or the image, see `units_of`.
        learned: (n,) bool, the cells that may be learned from.
        scored: (n,) bool, the cells that may be scored.
        tree: Classes and their parents.
    """
    kind, level = CLASSES[who[2]], _level(label[learned], label[scored], tree)
    if level:
        label = np.array([level.get(name, name) for name in label.tolist()])
    if kind == "shared":
        shared = sorted(set(label[learned]) & set(label[scored]))
        learned, scored = (rows & np.isin(label, shared) for rows in (learned, scored))
    taught = tuple(sorted(set(label[learned])))
    classes = tuple(sorted({*taught, *label[scored]}))
    n_train, n_test = int(learned.sum()), int(scored.sum())
    reason = _why_not(len(taught), kind, n_train, n_test, config.min_cells)
    method, classifier, protocol, training, test = who
    named = (method, classifier, protocol, training.name, test, training.where(test))
    pair = Pair(*named, classes, taught, n_train, n_test, reason, label[scored], units[scored], config.bootstrap, level)
    return pair, label, learned, scored


def _level(one: np.ndarray, other: np.ndarray, tree: ClassTree) -> dict[str, str]:
    """Those labels that are compared as another class, because the domains label at different levels."""
    shared = tree.shared(one.tolist(), other.tolist())
    return {label: compared for label, compared in shared.items() if compared not in ("", label)}


def _why_not(classes: int, kind: Classes, n_train: int, n_test: int, min_cells: int) -> str:
    if classes < 2:
        which = "shared" if kind == "shared" else "learned"
        return f"{classes or 'no'} {which} class{'' if classes == 1 else 'es'}, two are needed"
    if n_train < min_cells:
        return f"{n_train} cells to train on, {min_cells} are needed"
    if n_test < min_cells:
        return f"{n_test} cells to score, {min_cells} are needed"
    return ""


def method_of(embeddings: Embeddings) -> str:
    """The name of the method that made them."""
    return str(embeddings.attributes.get("method", "embedding"))


def align(embeddings: Embeddings, table: pd.DataFrame) -> np.ndarray:
    """The embedding of each row of `table`, matched by cell_id.

    Returns:
        (n, d) float32.

    Raises:
        CellfeatError: A cell is not embedded, or a value is not finite.
    """
    z = np.asarray(embeddings.of(table["cell_id"]), np.float32)
    if not np.isfinite(z).all():
        bad = table["cell_id"].iloc[int(np.flatnonzero(~np.isfinite(z).all(axis=1))[0])]
        raise CellfeatError(
            f"{method_of(embeddings)} embeddings: cell {bad!r} has values that are not finite",
            "train the extractor again",
        )
    return z


def tidy(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One row for each pair and metric; see `cross_domain_table` for the columns."""
    return pd.DataFrame([row for pair in pairs for row in _rows(pair)], columns=list(COLUMNS))


def _rows(pair: Pair) -> Iterator[dict[str, object]]:
    chance = chance_scores(pair.confusions[0]) if pair.probabilities else {}
    for metric, values in pair.by_run.items():
        low, high = interval(pair.resampled[metric] if values and metric in METRICS else np.empty(0))
        yield {
            "method": pair.method,
            "classifier": pair.classifier,
            "protocol": pair.protocol,
            "train": pair.train,
            "test": pair.test,
            "where": pair.where,
            "metric": metric,
            "mean": np.mean(values) if values else np.nan,
            "sd": np.std(values, ddof=1) if len(values) > 1 else np.nan,
            "low": low,
            "high": high,
            "runs": len(values),
            "chance": chance.get(metric, np.nan),
            "n_train": pair.n_train,
            "n_test": pair.n_test,
            "classes": ";".join(pair.classes),
            "unlearned": ";".join(pair.unlearned),
            "reason": pair.reason,
        }
