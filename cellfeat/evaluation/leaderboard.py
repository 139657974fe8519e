"""One line a method and classifier: how well it does within a site and across sites, and how far it aligns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.data.model_selection import SELECTION
from cellfeat.evaluation.metrics import METRICS, interval
from cellfeat.evaluation.table import Pair

TEXTS = ("method", "classifier", "protocol")
WHERE = ("across", "within")


def leaderboard_line(pairs: Sequence[Pair], measured: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The line of one method, classifier and protocol.

    Args:
        pairs: All its pairs of domains, evaluated or not.
        measured: What `separation` says of its embeddings, one a seed; none for a method that predicts.

    Returns:
        method, classifier, protocol, runs; then, for "across" and "within", the mean over the pairs of each metric, and
        for the metrics of accuracy `_sd` over the runs and `_low`, `_high` of the 95 % interval over resamples of the
        patients or images; then the means of what was measured. NaN where there is nothing.
    """
    line: dict[str, Any] = {"method": pairs[0].method, "classifier": pairs[0].classifier}
    line["protocol"] = pairs[0].protocol
    line["runs"] = max(len(pair.probabilities) for pair in pairs)
    for where in WHERE:
        chosen = [pair for pair in pairs if not pair.reason and pair.where == where]
        for metric in (*METRICS, *SELECTION):
            runs = np.mean([pair.by_run[metric] for pair in chosen], axis=0) if chosen else np.empty(0)
            line[f"{where}_{metric}"] = float(runs.mean()) if len(runs) else float("nan")
            if metric in METRICS:
                drawn = np.mean([pair.resampled[metric] for pair in chosen], axis=0) if chosen else np.empty(0)
                line[f"{where}_{metric}_sd"] = float(runs.std(ddof=1)) if len(runs) > 1 else float("nan")
                line[f"{where}_{metric}_low"], line[f"{where}_{metric}_high"] = interval(drawn)
    for name in ("domain_accuracy", "domain_chance", "silhouette_class", "silhouette_domain"):
        line[name] = float(np.mean([one[name] for one in measured])) if measured else float("nan")
    return line


def leaderboard(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The lines by protocol, best accuracy across domains first; within a domain where there is only one."""
    table = pd.DataFrame(lines)
    table = table.astype({name: float for name in table if name not in TEXTS})  # None, as JSON has it, is NaN
    keys = [f"{where}_accuracy" for where in WHERE]
    order = table.sort_values(keys, ascending=False, kind="stable", na_position="last")
    return order.sort_values("protocol", kind="stable").reset_index(drop=True)  # paper before shared
