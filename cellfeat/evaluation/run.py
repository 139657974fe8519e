"""`cellfeat evaluate`: embeddings in, the cross-domain table, its confusion matrices and a record of the run out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.core.files import sha256_file, write_json, write_text
from cellfeat.core.processes import connection, shared_out
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.version import __version__
from cellfeat.data.alignment import ANCHOR, MIN_CELLS, aligned
from cellfeat.data.cell_ids import parts_of
from cellfeat.data.label_table import relabelled
from cellfeat.data.split import divided_groups, patients_known, read_split, units_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.protocol import complete_split
from cellfeat.evaluation.separation import separation
from cellfeat.evaluation.table import Pair, align, method_of, score_pairs, tidy
from cellfeat.store import Embeddings, read_embeddings

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)


def evaluate(
    store: Store,
    embeddings: Sequence[str | Path],
    output_dir: str | Path,
    config: EvaluationConfig | None = None,
    split_csv: str | Path | None = None,
    labels_csv: str | Path | None = None,
    jobs: int = 1,
    ray: str | None = None,
) -> Path:
    """Score embeddings of a store within and across its domains.

    Writes table.csv (see `cross_domain_table`), confusion.json (one entry for each method, protocol and evaluated pair:
    the class order and the counts summed over the runs, rows true, columns predicted) and, last, evaluation.json, which
    has the digests of both.

    Args:
        store: The store that the embeddings were made from; its labels are the truth.
        embeddings: Embedding files, each of another method.
        output_dir: Made if need be; files of an earlier run are replaced.
        config: Default protocols and forests if None.
        split_csv: The split.csv of the autoencoder's run, so that no cell that it learned from is tested on.
        labels_csv: Labels in place of the store's, see `cellfeat.data.label_table`.
        jobs: Processes of this machine that share the methods and protocols.
        ray: In their place, the machines of a Ray cluster; its address, see `cellfeat.core.ray_tasks.connected`.

    Returns:
        The path of evaluation.json.

    Raises:
        CellfeatError: Embeddings of another store or with other cells, two of one method, a split or labels that
            do not fit.
    """
    config, output_dir = config or EvaluationConfig(), Path(output_dir)
    read = read_all(store, embeddings)
    table, tree = store.table(), config.tree(store.classes)
    if labels_csv:
        table = relabelled(table, Path(labels_csv), tree)
    split, split_here = complete_split(table, read_split(split_csv) if split_csv else None, config)
    tasks = [
        (method_of(one), [align(one, table)], table, protocol, split, config, tree)
        for one in read
        for protocol in config.protocols
    ]
    with connection(jobs, ray):
        pairs = [pair for found in _each(score_pairs, tasks, jobs, ray) for pair in found]
        views = [(one, table, split) for one in read]
        separations = [line for found in _each(_separations, views, jobs, ray) for line in found]
    scored = tidy(pairs)

    files = [output_dir / "table.csv", output_dir / "confusion.json"]
    write_text(files[0], csv_text(scored))
    write_json(files[1], [confusion_entry(pair) for pair in pairs if not pair.reason])
    labelled = table["label"] != ""
    record = {
        "cellfeat": __version__,
        "files": {path.name: sha256_file(path) for path in files},  # one that is half replaced is noticed
        "config": config.model_dump(),
        "inputs": {
            "store": store.digest,
            "embeddings": {
                str(one.attributes["method"]): {"file": Path(path).name, "sha256": sha256_file(path)}
                for one, path in zip(read, embeddings)
            },
            "split": {"file": Path(split_csv).name, "sha256": sha256_file(split_csv)} if split_csv else None,
            "labels": {"file": Path(labels_csv).name, "sha256": sha256_file(labels_csv)} if labels_csv else None,
        },
        "classes": tree.own,
        "labelled_cells": {str(name): int(n) for name, n in table[labelled].groupby("domain").size().items()},
        "unlabelled_domains": sorted(set(table["domain"]) - set(table["domain"][labelled])),
        "domains_split_here": split_here,
        "not_evaluable": [
            {"protocol": pair.protocol, "train": pair.train, "test": pair.test, "reason": pair.reason}
            for pair in pairs
            if pair.reason and (pair.method, pair.classifier) == (pairs[0].method, pairs[0].classifier)
        ],
        "patients": patients_known(table).to_dict("index"),
        "divided_patients": len(divided_groups(table, split)),
        "separation": separations,
        "summary": summary(scored),
    }
    write_json(output_dir / "evaluation.json", record)
    log.info("%s", _summary_line(record, output_dir))
    return output_dir / "evaluation.json"


def _each(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int, ray: str | None) -> list[Any]:
    """What the function returns for each task, in their order."""
    if jobs == 1 and ray is None:
        return [function(*task) for task in tasks]
    return [found for _, found in sorted(shared_out(function, tasks, jobs, ray), key=itemgetter(0))]


def _separations(one: Embeddings, table: pd.DataFrame, split: pd.Series) -> list[dict[str, Any]]:
    """How far apart domains and classes lie in an embedding, on the test part: as it is, and aligned by CORAL.

    CORAL's anchor is Matek-19 where it is there, else the domain with the most cells to take statistics from.
    """
    z, domain, label = align(one, table), table["domain"].to_numpy(str), table["label"].to_numpy(str)
    part, unit = parts_of(split, table["cell_id"]), units_of(table).to_numpy(str)
    tested, learned = part == "test", np.flatnonzero(part == "train")
    views = {method_of(one): z}
    cells = {name: int((domain[learned] == name).sum()) for name in sorted(set(domain))}
    if len(cells) > 1 and min(cells.values()) >= MIN_CELLS:  # a domain of a single cell has no statistics
        anchor = ANCHOR if ANCHOR in cells else max(cells, key=lambda name: cells[name])
        views[f"{method_of(one)}+coral"] = aligned(z, domain, learned, "coral", anchor)
    lines = []
    for method, view in views.items():
        found = separation(view[tested], domain[tested], label[tested], unit=unit[tested])
        numbers = {name: None if np.isnan(value) else value for name, value in found.items()}
        lines.append({"method": method, **numbers})
    return lines


def read_all(store: Store, embeddings: Sequence[str | Path]) -> list[Embeddings]:
    """Read embedding files and make sure that each was made from `store`, by a method of its own."""
    if not embeddings:
        raise CellfeatError("embeddings: none given; name at least one embeddings file")
    read: dict[str, Embeddings] = {}
    for path in embeddings:
        one = read_embeddings(path)
        method, made_from = str(one.attributes["method"]), str(one.attributes["store_digest"])
        if made_from != store.digest:
            raise CellfeatError(
                f"{path}: made from another store ({made_from[:12]}, this one is {store.digest[:12]}); embed this store"
            )
        if method in read:
            raise CellfeatError(f"{path}: a second file of method {method!r}; give one file a method")
        read[method] = one
    return list(read.values())


def summary(scored: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean of each metric within and across domains, by method, classifier and protocol; None where no pair counts."""
    lines = []
    for (method, classifier, protocol), rows in scored.groupby(["method", "classifier", "protocol"], sort=False):
        for where in ("within", "across"):
            means = rows[rows["where"] == where].groupby("metric", sort=False)["mean"].mean()
            values = {str(metric): None if np.isnan(value) else float(value) for metric, value in means.items()}
            lines.append({"method": method, "classifier": classifier, "protocol": protocol, "domains": where, **values})
    return lines


def confusion_entry(pair: Pair) -> dict[str, Any]:
    """A pair's entry in confusion.json; its counts are summed over the runs."""
    return {
        "method": pair.method,
        "classifier": pair.classifier,
        "protocol": pair.protocol,
        "train": pair.train,
        "test": pair.test,
        "where": pair.where,
        "classes": list(pair.classes),
        "compared_as": pair.level,
        "runs": len(pair.confusions),
        "counts": np.sum(pair.confusions, axis=0).tolist(),
    }


def _summary_line(record: dict[str, Any], output_dir: Path) -> str:
    best = [
        f"{line['method']} {line['classifier']} {line['protocol']} {line['domains']} {100 * line['accuracy']:.1f} %"
        for line in record["summary"]
        if line.get("accuracy") is not None
    ]
    return f"{output_dir}: " + (
        f"mean accuracy {', '.join(best)}" if best else f"nothing was evaluated: {_why(record)}"
    )


def _why(record: dict[str, Any]) -> str:
    """Why no pair of domains could be evaluated."""
    if not record["labelled_cells"]:
        return "no cell of the store has a label; give the datasets labels and dump again"
    reasons = Counter(line["reason"] for line in record["not_evaluable"])
    return ", ".join(f"{reason} (of {count} pairs of domains)" for reason, count in reasons.items())
