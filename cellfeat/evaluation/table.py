"""The cross-domain table: random forests trained on one domain's embeddings and scored on each domain's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from cellfeat.errors import CellfeatError
from cellfeat.evaluation.metrics import METRICS, chance_scores, confusion_matrix, scores
from cellfeat.evaluation.protocol import EvaluationConfig, ProtocolName, complete_split, members, reference_split

if TYPE_CHECKING:
    from cellfeat.store import Embeddings


COLUMNS = (
    *("method", "protocol", "train", "test", "metric"),
    *("mean", "sd", "runs", "chance", "n_train", "n_test", "classes", "reason"),
)


@dataclass
class Pair:
    """A forest's training domain and the domain that it is scored on.

    Attributes:
        classes: The k classes that have cells to train on and cells to score, in alphabetical order.
        n_train: Cells of these classes that the forest learns from.
        n_test: Cells of these classes that are scored.
        reason: Why the pair was not evaluated; "" where it was.
        confusions: One (k, k) count matrix a run, rows true, columns predicted, in the order of `classes`.
    """

    method: str
    protocol: ProtocolName
    train: str
    test: str
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    reason: str
    confusions: list[np.ndarray] = field(default_factory=list)


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
) -> pd.DataFrame:
    """Score embeddings within and across domains.

    Cells are matched by cell_id. Unlabelled cells take no part; a pair of domains is scored on the classes that have
    cells to train on in the one and cells to score in the other.

    Args:
        embeddings: One method's embeddings, or several methods'.
        table: One row a cell, with columns cell_id, domain, label ("" where unknown), as `Store.table()` returns it.
        protocol: "paper" or "code", see `cellfeat.evaluation.protocol`.
        split: Protocol `paper`: "train" or "test" by cell_id, as the autoencoder was trained; made here if None.
        runs: Protocol `paper`: forests per pair.
        trees: Protocol `paper`: trees of a forest.
        depth: Largest depth of a tree.
        seed: Protocol `paper`: seed of the first forest and of the split made here.
        min_cells: A pair with fewer cells to train on, or to score, is not evaluated.

    Returns:
        One row for each method, pair of domains and metric (accuracy, balanced_accuracy, macro_f1, all fractions): the
        columns method, protocol, train, test, metric, mean, sd (over runs; NaN for a single run), runs, chance (of the
        best constant answer), n_train, n_test, classes (joined by ";") and reason ("" where evaluated, else why not).

    Raises:
        CellfeatError: The embeddings do not hold exactly the cells of `table`, or `split` does not fit it.
    """
    config = EvaluationConfig(protocols=[protocol], runs=runs, trees=trees, depth=depth, seed=seed, min_cells=min_cells)
    several = list(embeddings) if isinstance(embeddings, Sequence) else [embeddings]
    complete, _ = complete_split(table, split, config)
    return tidy([pair for one in several for pair in score_pairs(one, table, protocol, complete, config)])


def score_pairs(
    embeddings: Embeddings, table: pd.DataFrame, protocol: ProtocolName, split: pd.Series, config: EvaluationConfig
) -> list[Pair]:
    """Train and score the forests of one method under one protocol, for every ordered pair of labelled domains.

    Args:
        split: "train" or "test" of every cell of `table`, indexed by cell_id; protocol `code` makes its own.
    """
    method = str(embeddings.attributes.get("method", "embedding"))
    z = align(embeddings, table)
    known = (table["label"] != "").to_numpy()
    labelled, z = table[known], z[known]
    parts = reference_split(labelled) if protocol == "code" else split.reindex(labelled["cell_id"])
    domain, label, part = (column.to_numpy(str) for column in (labelled["domain"], labelled["label"], parts))

    pairs: list[Pair] = []
    domains = sorted(set(domain))
    with tqdm(total=len(domains) ** 2, desc=f"{method}, protocol {protocol}", unit="pair") as progress:
        for train in domains:
            by_classes = defaultdict(list)  # a forest serves every test domain with which it shares the same classes
            for test in domains:
                learned, scored = members(domain, part, train, test, protocol)
                classes = tuple(sorted(set(label[learned]) & set(label[scored])))
                learned, scored = (rows & np.isin(label, classes) for rows in (learned, scored))
                n_train, n_test = int(learned.sum()), int(scored.sum())
                reason = _why_not(len(classes), n_train, n_test, config.min_cells)
                pairs.append(Pair(method, protocol, train, test, classes, n_train, n_test, reason))
                if reason:
                    progress.update()
                else:
                    by_classes[classes].append((pairs[-1], scored, learned))
            for classes, group in by_classes.items():
                learned = group[0][2]
                for seed in config.forest_seeds(protocol):
                    forest = RandomForestClassifier(
                        config.forest_size(protocol), max_depth=config.depth, random_state=seed, n_jobs=-1
                    )
                    forest.fit(z[learned], label[learned])
                    forest.n_jobs = 1  # threads add up the votes in varying order, which breaks near-ties at random
                    for pair, scored, _ in group:
                        predicted = forest.predict(z[scored])
                        pair.confusions.append(confusion_matrix(label[scored], predicted, classes))
                progress.update(len(group))
    return pairs


def _why_not(classes: int, n_train: int, n_test: int, min_cells: int) -> str:
    if classes < 2:
        return f"{classes or 'no'} shared class{'' if classes == 1 else 'es'}, two are needed"
    if n_train < min_cells:
        return f"{n_train} cells to train on, {min_cells} are needed"
    if n_test < min_cells:
        return f"{n_test} cells to score, {min_cells} are needed"
    return ""


def align(embeddings: Embeddings, table: pd.DataFrame) -> np.ndarray:
    """The embedding of each row of `table`, matched by cell_id.

    Returns:
        (n, d) float32.

    Raises:
        CellfeatError: The cells are not those of the table, or a value is not finite.
    """
    method = embeddings.attributes.get("method", "embedding")
    index = pd.Index(embeddings.cell_id)
    if not index.is_unique:
        raise CellfeatError(
            f"{method} embeddings: cell {index[index.duplicated()][0]!r} occurs twice; embed the store again"
        )
    rows = index.get_indexer(pd.Index(table["cell_id"]))
    if (rows < 0).any() or len(index) != len(rows):
        raise CellfeatError(
            f"{method} embeddings: hold {int((rows >= 0).sum())} of the {len(rows)} cells, and {len(index)} in all; "
            "embed the store again"
        )
    z = np.asarray(embeddings.z, np.float32)[rows]
    if not np.isfinite(z).all():
        bad = table["cell_id"].iloc[int(np.flatnonzero(~np.isfinite(z).all(axis=1))[0])]
        raise CellfeatError(
            f"{method} embeddings: cell {bad!r} has values that are not finite; train the extractor again"
        )
    return z


def tidy(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One row for each pair and metric; see `cross_domain_table` for the columns."""
    return pd.DataFrame([row for pair in pairs for row in _rows(pair)], columns=list(COLUMNS))


def _rows(pair: Pair) -> Iterator[dict[str, object]]:
    by_run = [scores(confusion) for confusion in pair.confusions]
    chance = chance_scores(pair.confusions[0]) if by_run else dict.fromkeys(METRICS, np.nan)
    for metric in METRICS:
        values = [run[metric] for run in by_run]
        yield {
            "method": pair.method,
            "protocol": pair.protocol,
            "train": pair.train,
            "test": pair.test,
            "metric": metric,
            "mean": np.mean(values) if values else np.nan,
            "sd": np.std(values, ddof=1) if len(values) > 1 else np.nan,
            "runs": len(values),
            "chance": chance[metric],
            "n_train": pair.n_train,
            "n_test": pair.n_test,
            "classes": ";".join(pair.classes),
            "reason": pair.reason,
        }
