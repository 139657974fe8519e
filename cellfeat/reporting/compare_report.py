"""One HTML file on a comparison: the leaderboard, and every method's figures side by side."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import cellfeat
from cellfeat.core.files import write_text
from cellfeat.evaluation.metrics import METRICS
from cellfeat.evaluation.published import load_published, published_beside_ours
from cellfeat.reporting import plots, score_sections, sections
from cellfeat.reporting.palette import method_name
from cellfeat.reporting.report import environment

if TYPE_CHECKING:
    from cellfeat.store import Store


def write_compare_report(
    output: Path,
    store: Store,
    board: pd.DataFrame,
    table: pd.DataFrame,
    scored: Mapping[str, Mapping[str, Any]],
    not_run: Mapping[str, str],
    config: Mapping[str, Any],
    config_text: str,
    reconstructions: sections.Reconstructions | None,
) -> Path:
    """Write the report of a comparison.

    Args:
        board: The leaderboard.
        table: The cross-domain table of all methods.
        scored: By method and alignment: confusions and map, as `cellfeat.evaluation.variant` makes them.
        not_run: By method, why it was left out.
        config: The settings that were used; `config_text` is the YAML that said so.
        reconstructions: Originals, by a method's name what it draws of them, and captions.

    Returns:
        `output`.
    """
    numbers = dict.fromkeys(("mean", "sd", "low", "high", "chance"), float)
    table = table.astype(numbers)
    protocols = score_sections.protocols_that_differ(table)
    images = store.images().groupby("domain").size().to_dict()
    cells = store.table()
    entries = [entry for one in scored.values() for entry in one["confusions"] if entry["protocol"] == protocols[0]]
    context = {
        "version": cellfeat.__version__,
        "today": datetime.date.today().isoformat(),
        "store": {"digest": store.digest, "cells": len(store)},
        "evaluation": config["evaluation"],
        "boards": _boards(board, protocols),
        "metrics": METRICS,
        "not_run": {method_name(name): reason for name, reason in not_run.items()},
        "grids": [score_sections.grid(table, protocol) for protocol in protocols],
        "pairs": {name: score_sections.pairs(table[table["protocol"] == name]) for name in protocols},
        "maps": _maps(scored, cells),
        "confusions": score_sections.matrices(entries),
        "reconstructions": sections.reconstructions(reconstructions),
        "published": score_sections.beside(table, published_beside_ours(table, images, config["same_site"])),
        "elsewhere": _elsewhere(board),
        "settings": {"Comparison": config_text} if config_text else {},
    }
    write_text(output, environment().get_template("compare.html.j2").render(context))
    return output


def _boards(board: pd.DataFrame, protocols: Sequence[str]) -> dict[str, list[dict[Any, Any]]]:
    """The lines of each protocol, with the methods' names in prose."""
    lines = [{**line, "name": method_name(line["method"], line["classifier"])} for line in board.to_dict("records")]
    return {protocol: [line for line in lines if line["protocol"] == protocol] for protocol in protocols}


def _maps(scored: Mapping[str, Mapping[str, Any]], cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The 2-D map of each method and each alignment of it, those of one method one after the other."""
    domain, label = cells["domain"].to_numpy(str), cells["label"].to_numpy(str)
    shown = []
    for title, one in scored.items():
        if one["map"]:
            rows, xy = np.array(one["map"]["rows"], int), np.array(one["map"]["xy"])
            uri = sections.png(plots.scatter(xy, domain[rows], label[rows])) if len(rows) else None
            said = {"kind": one["map"]["kind"], "shown": len(rows), "reason": one["map"]["reason"]}
            shown.append({"method": method_name(title), "uri": uri, **said})
    return shown


def _elsewhere(board: pd.DataFrame) -> list[dict[str, Any]]:
    """Results on other data, with ours of the same method: the mean over the pairs within, or across, our domains."""
    ours = board.drop_duplicates("method").set_index("method")
    rows = load_published("elsewhere").to_dict("records")
    for row in rows:
        row["name"] = method_name(row["method"])
        row["ours"] = (
            ours.loc[row["method"], f"{row['where']}_{row['metric']}"] if row["method"] in ours.index else None
        )
    return rows
