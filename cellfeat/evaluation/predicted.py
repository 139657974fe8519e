"""Methods that name cells themselves, scored as the classifiers on embeddings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cellfeat.data.cell_ids import parts_of, rows_of
from cellfeat.data.class_tree import THE_CLASSES, ClassTree
from cellfeat.data.split import units_of
from cellfeat.evaluation.config import EvaluationConfig, ProtocolName
from cellfeat.evaluation.protocol import members, trainings
from cellfeat.evaluation.table import Pair, new_pair
from cellfeat.store import Predictions


def predicted_pairs(
    method: str,
    predictions: Mapping[tuple[str, str], Sequence[Predictions]],
    table: pd.DataFrame,
    protocol: ProtocolName,
    split: pd.Series,
    config: EvaluationConfig,
    tree: ClassTree = THE_CLASSES,
) -> list[Pair]:
    """Score predictions under one protocol, for everything that is trained on and every domain that is tested.

    Under `paper` the most probable of all learned classes counts. Under `shared` probabilities of classes that the two
    domains do not share are left out and the rest is scaled to add up to 1.

    Args:
        protocol: "paper" or "shared"; `code` splits the cells in another way than the method's training did.
        predictions: By (name of the training, tested domain), where it can be evaluated, one for each seed of the
            method.
        split: "train" or "test" of every cell of `table`, indexed by cell_id.
        tree: Classes and their parents.
    """
    labelled = table[table["label"] != ""]
    part = parts_of(split, labelled["cell_id"])
    cell_id, domain, label = (labelled[name].to_numpy(str) for name in ("cell_id", "domain", "label"))
    units = units_of(labelled).to_numpy(str)
    pairs = []
    for training in trainings(domain.tolist(), config):
        for test in training.tests:
            learned, scored = members(domain, part, training.sources, test, protocol)
            who = (method, "own", protocol, training, test)
            pair, _, _, scored = new_pair(who, label, units, learned, scored, config, tree)
            if not pair.reason:
                for run in predictions[pair.train, test]:
                    source = f"{run.attributes.get('method')} predictions"
                    rows = rows_of(cell_id[scored], run.cell_id, source, "predict this store again")
                    pair.add(run.classes.tolist(), run.probabilities[rows])
            pairs.append(pair)
    return pairs
