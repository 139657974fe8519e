"""The sections of the report that tell how well classes were told apart, as plain values for the template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.core.files import read_json, sha256_file
from cellfeat.errors import CellfeatError, Damaged
from cellfeat.evaluation.published import published_beside_ours
from cellfeat.reporting import plots
from cellfeat.reporting.palette import class_style, in_reading_order, method_name
from cellfeat.reporting.sections import png

if TYPE_CHECKING:
    from cellfeat.store import Store


def scores(
    store: Store, evaluation_dir: Path | None, embeddings: Mapping[str, Path], same_site: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """The cross-domain table, the published numbers beside it, and the confusion matrices.

    Raises:
        CellfeatError: The evaluation is of another store or of other embeddings than those given.
        Damaged: Its files are of different evaluations: one was interrupted.
    """
    if evaluation_dir is None:
        return None
    record = read_json(evaluation_dir / "evaluation.json")
    for name, sha256 in record.get("files", {}).items():  # cellfeat 0.1.0 wrote none
        if not (evaluation_dir / name).is_file() or sha256_file(evaluation_dir / name) != sha256:
            raise Damaged(f"{evaluation_dir / name}: is of another evaluation than evaluation.json", "evaluate again")
    if record["inputs"]["store"] != store.digest:
        raise CellfeatError(f"{evaluation_dir}: evaluates another store; evaluate this one again")
    for method, path in embeddings.items():
        if record["inputs"]["embeddings"].get(method, {}).get("sha256") != sha256_file(path):
            raise CellfeatError(f"{evaluation_dir}: does not evaluate {path} as it is now; evaluate again")
    texts = dict.fromkeys(
        ("method", "classifier", "protocol", "train", "test", "metric", "classes", "unlearned", "reason"), str
    )
    numbers = dict.fromkeys(("mean", "sd", "low", "high", "chance"), "")
    table = pd.read_csv(evaluation_dir / "table.csv", dtype=texts, keep_default_na=False, na_values=numbers)
    if "unlearned" not in table:
        raise CellfeatError(f"{evaluation_dir / 'table.csv'}: of an older version of cellfeat; evaluate again")
    entries = read_json(evaluation_dir / "confusion.json")
    protocols = protocols_that_differ(table)
    first = protocols[0] if protocols else record["config"]["protocols"][0]
    images = store.images().groupby("domain").size().to_dict()
    return {
        "record": record,
        "tables": [grid(table, protocol) for protocol in protocols],
        "pairs": {name: pairs(table[table["protocol"] == name]) for name in protocols if name != "code"},
        "glance": _glance(table[table["protocol"] == first]),
        "published": beside(table, published_beside_ours(table, images, same_site)),
        "confusions": matrices([entry for entry in entries if entry["protocol"] == first]),
        "separation": [one | {"name": method_name(one["method"])} for one in record["separation"]],
        "protocol": first,
    }


def protocols_that_differ(table: pd.DataFrame) -> list[str]:
    """The protocols of a table in their order; without `shared` where all domains have the same classes.

    There `paper` and `shared` learn and score the same cells, so their numbers are the same.
    """
    found = list(dict.fromkeys(table["protocol"]))
    cells = table.drop_duplicates(["protocol", "train", "test"]).set_index(["train", "test"])
    sizes = {name: cells.loc[cells["protocol"] == name, ["n_train", "n_test"]].sort_index() for name in found}
    if {"paper", "shared"} <= set(found) and sizes["paper"].equals(sizes["shared"]):
        found.remove("shared")
    return found


def grid(table: pd.DataFrame, protocol: str) -> dict[str, Any]:
    """A cross-domain table as rows of the training domain, in them rows of the methods, in them the test domains."""
    chosen = table[table["protocol"] == protocol]
    domains = sorted(set(chosen["train"]))
    methods = list(dict.fromkeys(zip(chosen["method"], chosen["classifier"])))
    cells: dict[tuple[str, str], dict[tuple[str, str], Any]] = defaultdict(dict)
    for (train, test, *method), rows in chosen.groupby(["train", "test", "method", "classifier"]):
        about = rows.iloc[0][["reason", "n_test"]].to_dict()
        cells[train, test][method[0], method[1]] = {"metrics": rows.set_index("metric").to_dict("index"), **about}
    lines = [
        {
            "train": train,
            "methods": [
                {"name": method_name(*method), "cells": [cells[train, test][method] for test in domains]}
                for method in methods
            ],
            "chance": [cells[train, test][methods[0]] for test in domains],
        }
        for train in domains
    ]
    return {"protocol": protocol, "domains": domains, "rows": lines, "runs": int(chosen["runs"].max())}


def pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Which classes and how many cells each pair of domains is scored on."""
    rows = table.drop_duplicates(["train", "test"]).to_dict("records")
    for row in rows:
        for column in ("classes", "unlearned"):
            row[column] = [class_style(name).name for name in in_reading_order(row[column].split(";")) if name]
    return rows


def _glance(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean accuracy within and across domains of each method, and last of the best constant answer."""
    accuracy = table[table["metric"] == "accuracy"]
    across = accuracy["train"] != accuracy["test"]
    sides = {"within": accuracy[~across], "across": accuracy[across]}
    lines = [
        {"name": method_name(method, classifier)}
        | {
            side: rows.loc[(rows["method"] == method) & (rows["classifier"] == classifier), "mean"].mean()
            for side, rows in sides.items()
        }
        for method, classifier in dict.fromkeys(zip(accuracy["method"], accuracy["classifier"]))
    ]
    return [*lines, {"name": "chance"} | {side: rows["chance"].mean() for side, rows in sides.items()}] if lines else []


def beside(table: pd.DataFrame, published: pd.DataFrame) -> list[dict[str, Any]]:
    """Published values with ours of the same method, metric and pair of domains, by the paper's forest or its own."""
    chosen = table[table["classifier"].isin(("forest", "own"))]
    ours = chosen.set_index(["method", "protocol", "train", "test", "metric"])[["mean", "sd"]]
    rows = published.to_dict("records")
    for row in rows:
        row["name"] = method_name(row["method"])
        row["ours"] = {
            protocol: ours.loc[key].to_dict()
            for protocol in ("paper", "code")
            if (key := (row["method"], protocol, row["ours_train"], row["ours_test"], row["metric"])) in ours.index
        }
    return rows


def matrices(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The confusion matrices of each method as a figure, and the largest mistakes of each pair of domains."""
    by_method: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_method.setdefault((entry["method"], entry["classifier"]), []).append(entry)
    return [
        {
            "method": method_name(*method),
            "uri": png(plots.confusions(group, sorted({entry[side] for entry in group for side in ("train", "test")}))),
            "mistakes": [{"train": entry["train"], "test": entry["test"], "worst": _worst(entry)} for entry in group],
        }
        for method, group in by_method.items()
    ]


def _worst(entry: Mapping[str, Any], most: int = 3) -> list[dict[str, Any]]:
    """The largest shares of a true class that were called by another class's name."""
    counts = np.asarray(entry["counts"], float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    names = [class_style(name).name for name in entry["classes"]]
    found = [np.unravel_index(k, shares.shape) for k in order]
    return [{"true": names[i], "called": names[j], "share": shares[i, j]} for i, j in found if shares[i, j] > 0]
