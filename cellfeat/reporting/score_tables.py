"""Accuracies and confusions as plain values for the templates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.evaluation.published import load_published
from cellfeat.reporting import plots
from cellfeat.reporting.palette import class_style, in_reading_order, method_name
from cellfeat.reporting.plots import png_uri


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
    """A cross-domain table as rows of what was trained on, in them rows of the methods, in them the test domains.

    The cell of a domain that was not tested is None.
    """
    chosen = table[table["protocol"] == protocol]
    trained, domains = list(dict.fromkeys(chosen["train"])), sorted(set(chosen["test"]))
    methods = list(dict.fromkeys(zip(chosen["method"], chosen["classifier"])))
    cells: dict[tuple[str, str], dict[tuple[str, str], Any]] = defaultdict(dict)
    for (train, test, *method), rows in chosen.groupby(["train", "test", "method", "classifier"]):
        about = rows.iloc[0][["reason", "n_test"]].to_dict()
        cells[train, test][method[0], method[1]] = {"metrics": rows.set_index("metric").to_dict("index"), **about}
    lines = [
        {
            "train": train,
            "methods": [
                {"name": method_name(*method), "cells": [cells[train, test].get(method) for test in domains]}
                for method in methods
            ],
            "chance": [cells[train, test].get(methods[0]) for test in domains],
        }
        for train in trained
    ]
    return {"protocol": protocol, "domains": domains, "rows": lines, "runs": int(chosen["runs"].max())}


def pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Which classes and how many cells each pair of domains is scored on."""
    rows = table.drop_duplicates(["train", "test"]).to_dict("records")
    for row in rows:
        for column in ("classes", "unlearned"):
            row[column] = [class_style(name).name for name in in_reading_order(row[column].split(";")) if name]
    return rows


def glance(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean accuracy within and across domains of each method, and last of the best constant answer."""
    accuracy = table[table["metric"] == "accuracy"]
    sides = {side: accuracy[accuracy["where"] == side] for side in ("within", "across")}
    lines = [
        {"name": method_name(method, classifier)}
        | {
            side: rows.loc[(rows["method"] == method) & (rows["classifier"] == classifier), "mean"].mean()
            for side, rows in sides.items()
        }
        for method, classifier in dict.fromkeys(zip(accuracy["method"], accuracy["classifier"]))
    ]
    return (
        [*lines, {"name": "constant"} | {side: rows["chance"].mean() for side, rows in sides.items()}] if lines else []
    )


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


def elsewhere(leaderboard: pd.DataFrame) -> list[dict[str, Any]]:
    """Results on other data, with ours of the same method: the mean over the pairs within, or across, our domains."""
    ours = leaderboard.drop_duplicates("method").set_index("method")
    rows = load_published("elsewhere").to_dict("records")
    for row in rows:
        row["name"] = method_name(row["method"])
        known = row["method"] in ours.index
        row["ours"] = ours.loc[row["method"], f"{row['where']}_{row['metric']}"] if known else None
    return rows


def matrices(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The confusion matrices of each method as a figure, and the largest mistakes of each pair of domains."""
    by_method: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_method.setdefault((entry["method"], entry["classifier"]), []).append(entry)
    for group in by_method.values():
        group[:] = sorted(group, key=lambda entry: (" + " in entry["train"], entry["train"], entry["test"]))
        group += _pooled_sources(group)
    return [
        {
            "method": method_name(*method),
            "uri": png_uri(plots.confusions(group)),
            "mistakes": [{"train": entry["train"], "test": entry["test"], "worst": _worst(entry)} for entry in group],
        }
        for method, group in by_method.items()
    ]


def _pooled_sources(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each training on several domains the matrix of all of them together: the source, as one pooled it."""
    by_training: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["where"] == "within":
            by_training.setdefault(entry["train"], []).append(entry)
    pooled = []
    for train, group in by_training.items():
        if len(group) > 1:
            classes = sorted({name for entry in group for name in entry["classes"]})
            counts = np.zeros((len(classes), len(classes)), int)
            for entry in group:
                at = [classes.index(name) for name in entry["classes"]]
                counts[np.ix_(at, at)] += np.asarray(entry["counts"], int)
            pooled.append({"train": train, "test": "sources together", "classes": classes, "counts": counts})
    return pooled


def _worst(entry: Mapping[str, Any], most: int = 3) -> list[dict[str, Any]]:
    """The largest shares of a true class that were called by another class's name."""
    counts = np.asarray(entry["counts"], float)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    names = [class_style(name).name for name in entry["classes"]]
    found = [np.unravel_index(k, shares.shape) for k in order]
    return [{"true": names[i], "called": names[j], "share": shares[i, j]} for i, j in found if shares[i, j] > 0]
