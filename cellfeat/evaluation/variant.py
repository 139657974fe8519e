"""All that a comparison says of one method (or of one alignment of it), as plain values that JSON keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.data.cell_ids import parts_of
from cellfeat.data.class_tree import THE_CLASSES, ClassTree
from cellfeat.data.split import units_of
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.leaderboard import leaderboard_line
from cellfeat.evaluation.predicted import predicted_pairs
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.protocol import involved_domains, trainings
from cellfeat.evaluation.run import confusion_entry
from cellfeat.evaluation.separation import separation
from cellfeat.evaluation.table import Pair, align, score_pairs, tidy
from cellfeat.store import Predictions, read_embeddings


def score_embeddings(
    title: str,
    paths: Sequence[Path],
    table: pd.DataFrame,
    split: pd.Series,
    config: EvaluationConfig,
    tree: ClassTree = THE_CLASSES,
) -> dict[str, Any]:
    """Score embeddings, one file a seed.

    The alignment is measured on the test cells of the domains that are trained on or tested; the map is of the
    first seed.

    Returns:
        table: The rows of the cross-domain table.
        confusions: The entries of confusion.json.
        lines: The lines of the leaderboard, one a protocol and classifier.
        map: kind ("UMAP" or "t-SNE"), rows (of the store) and xy of the cells drawn, d of the embedding, and
            the reason why none is drawn.
    """
    zs = [align(read_embeddings(path), table) for path in paths]
    pairs = [
        pair for protocol in config.protocols for pair in score_pairs(title, zs, table, protocol, split, config, tree)
    ]
    domain, label = table["domain"].to_numpy(str), table["label"].to_numpy(str)
    chosen = np.isin(domain, involved_domains(trainings(domain[label != ""].tolist(), config)))
    unit = units_of(table).to_numpy(str)
    tested = chosen & (parts_of(split, table["cell_id"]) == "test")
    measured = [separation(z[tested], domain[tested], label[tested], unit=unit[tested]) for z in zs]
    flat = project(zs[0][chosen], domain[chosen])
    drawn = {"kind": flat.kind, "rows": np.flatnonzero(chosen)[flat.rows].tolist(), "xy": flat.points.round(3).tolist()}
    drawn |= {"reason": flat.reason, "d": zs[0].shape[1]}
    return _plain(pairs, measured) | {"map": drawn}


def score_predictions(
    title: str,
    predictions: Mapping[tuple[str, str], Sequence[Predictions]],
    table: pd.DataFrame,
    split: pd.Series,
    config: EvaluationConfig,
    tree: ClassTree = THE_CLASSES,
) -> dict[str, Any]:
    """Score predictions; as `score_embeddings`, with nothing to draw."""
    pairs = [
        pair
        for protocol in config.protocols
        for pair in predicted_pairs(title, predictions, table, protocol, split, config, tree)
    ]
    return _plain(pairs, []) | {"map": None}


def _plain(pairs: Sequence[Pair], measured: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.protocol, pair.classifier), []).append(pair)
    return {
        "table": [_without_nan(row) for row in tidy(pairs).to_dict("records")],
        "confusions": [confusion_entry(pair) for pair in pairs if not pair.reason],
        "lines": [_without_nan(leaderboard_line(group, measured)) for group in groups.values()],
    }


def _without_nan(row: Mapping[Any, Any]) -> dict[str, Any]:
    """None for NaN, which JSON does not know."""
    return {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
