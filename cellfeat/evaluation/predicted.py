"""Methods that name cells themselves, scored as the classifiers on embeddings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from cellfeat.data.cell_ids import parts_of, rows_of
from cellfeat.evaluation.protocol import EvaluationConfig, members, scored_domains
from cellfeat.evaluation.table import Pair, new_pair
from cellfeat.store import Predictions


def predicted_pairs(
    method: str,
    predictions: Mapping[tuple[str, str], Sequence[Predictions]],
    table: pd.DataFrame,
    split: pd.Series,
    config: EvaluationConfig,
) -> list[Pair]:
    """Score predictions under protocol `paper`, for every ordered pair of labelled domains.

    A pair is scored on the classes that both domains share, as embeddings are: probabilities of other classes are left
    out and the rest is scaled to add up to 1.

    Args:
        predictions: For each pair (trained on, tested on) that can be evaluated, one for each seed of the method.
        split: "train" or "test" of every cell of `table`, indexed by cell_id.
    """
    labelled = table[table["label"] != ""]
    part = parts_of(split, labelled["cell_id"])
    cell_id, domain, label = (labelled[name].to_numpy(str) for name in ("cell_id", "domain", "label"))
    pairs = []
    for train, test in product(scored_domains(domain.tolist(), config), repeat=2):
        learned, scored = members(domain, part, train, test, "paper")
        pair, _, scored = new_pair((method, "own", "paper", train, test), label, learned, scored, config)
        if not pair.reason:
            pair.probabilities = [_among(run, cell_id[scored], pair.classes) for run in predictions[train, test]]
        pairs.append(pair)
    return pairs


def _among(run: Predictions, cell_id: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n, k) probabilities of the given cells among the given classes; even where a cell is none of them."""
    source = f"{run.attributes.get('method')} predictions"
    rows = rows_of(cell_id, run.cell_id, source, "predict this store again")
    columns = pd.Index(run.classes).get_indexer(pd.Index(classes))
    chosen = np.where(columns >= 0, run.probabilities[rows][:, columns], 0).astype(np.float64)
    chosen += np.finfo(np.float32).tiny
    return chosen / chosen.sum(axis=1, keepdims=True)
