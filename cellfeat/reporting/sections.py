"""What each section of the report shows, as plain values for the template; None where its part is absent."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.core.files import read_json
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.published import load_published
from cellfeat.reporting import plots
from cellfeat.reporting.palette import class_style, in_reading_order, method_name

if TYPE_CHECKING:
    from cellfeat.store import Embeddings, Store

DETECTOR_LOSSES = {
    "loss_cls": "is it a cell",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_rpn_cls": "proposal: is it a cell",
    "loss_rpn_loc": "proposal: box",
}
AUTOENCODER_LOSSES = {
    "loss": "whole loss",
    "feature_loss": "features, mean squared error",
    "image_loss": "image, 1 − SSIM",
    "alignment_loss": "distance between domains",
}
Reconstructions = tuple[np.ndarray, Mapping[str, np.ndarray], Sequence[str]]

TILES_ACROSS = 10  # crops that fit side by side on the page


def counts(table: pd.DataFrame) -> dict[str, Any]:
    """Cells by class (rows, in the order of a differential count, unlabelled last) and domain (columns)."""
    domains = sorted(set(table["domain"]))
    grid = table.groupby(["label", "domain"]).size()
    rows = [
        {"name": class_style(label).name, "counts": [int(grid.get((label, domain), 0)) for domain in domains]}
        for label in in_reading_order(table["label"])
    ]
    return {"domains": domains, "rows": rows, "totals": [int((table["domain"] == domain).sum()) for domain in domains]}


def detection(store: Store, detector_dir: Path | None) -> dict[str, Any]:
    """How many images have a cell, per domain, and the detector's average precision where it was measured."""
    rates = [{"domain": domain, **row} for domain, row in store.detection_rate().to_dict("index").items()]
    published = load_published("detection").set_index("metric").to_dict("index")
    precision = []
    path = detector_dir / "evaluation.json" if detector_dir else None
    if path and path.is_file():
        for dataset, tasks in read_json(path).items():
            for task, name in (("bbox", "boxes"), ("segm", "masks")):
                if values := tasks.get(task):
                    precision.append(
                        {"dataset": dataset, "what": name, **{k: values.get(k) for k in ("AP", "AP50", "AP75")}}
                    )
    return {"rates": rates, "precision": precision, "published": published}


def montage(store: Store, table: pd.DataFrame, seed: int = 0) -> dict[str, Any] | None:
    """A few cells of each class and domain, chosen by chance: the crop above, its mask below."""
    domains = sorted(set(table["domain"]))
    if not domains:
        return None
    examples = min(4, max(1, TILES_ACROSS // len(domains)))
    chosen = table.sample(frac=1, random_state=seed).groupby(["label", "domain"]).head(examples)
    rows = np.sort(chosen.index.to_numpy())
    crops, masks = store.read("crops", rows), store.read("masks", rows)
    strips = []
    for label in in_reading_order(table["label"]):
        cells = []
        for domain in domains:
            at = ((table["label"] == label) & (table["domain"] == domain)).to_numpy()[rows]
            cells.append({"uri": jpeg(plots.strip(crops[at], masks[at])), "n": int(at.sum())} if at.any() else None)
        strips.append({"name": class_style(label).name, "cells": cells})
    return {"domains": domains, "rows": strips}


def reconstructions(given: Reconstructions | None) -> dict[str, Any] | None:
    """Originals above the pictures that each autoencoder makes of them."""
    if given is None or not len(given[0]):
        return None
    originals, rebuilt, captions = given
    for name, pictures in rebuilt.items():
        if not originals.shape == pictures.shape == (len(captions), *originals.shape[1:3], 3):
            raise CellfeatError(
                f"reconstructions: originals {originals.shape}, by {name} {pictures.shape}, {len(captions)} captions; "
                "they must be (n, S, S, 3) twice and n"
            )
    columns = plots.columns([originals, *rebuilt.values()])
    shown = [{"uri": jpeg(one), "caption": text} for one, text in zip(columns, captions)]
    return {"rows": ["the cut-out", *(method_name(name) for name in rebuilt)], "shown": shown}


def detector_curves(detector_dir: Path | None) -> str | None:
    """Losses of the detector's training, from metrics.json (JSON lines)."""
    path = detector_dir / "metrics.json" if detector_dir else None
    if path is None or not path.is_file():
        return None
    log = pd.DataFrame([row for line in path.read_text(encoding="utf-8").splitlines() if (row := _json_row(line))])
    parts = _numbers(log, DETECTOR_LOSSES)
    panels = {}
    if "iteration" in log and (total := _numbers(log, {"total_loss": "whole loss"})):
        panels["whole loss"] = (log["iteration"].to_numpy(float), total)
    if "iteration" in log and parts:
        panels["its parts"] = (log["iteration"].to_numpy(float), parts)
    return png(plots.curves(panels, "iteration")) if panels else None


def autoencoder_curves(autoencoder_dir: Path | None) -> dict[str, Any] | None:
    """Losses and health of the latent space over the autoencoder's training, from metrics.csv."""
    path = autoencoder_dir / "metrics.csv" if autoencoder_dir else None
    if path is None or not path.is_file():
        return None
    try:
        log = pd.read_csv(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError):
        return None
    epoch = _numbers(log, {"epoch": "epoch"}).get("epoch", np.arange(len(log), dtype=float))
    panels = {title: (epoch, {title: line}) for title, line in _numbers(log, AUTOENCODER_LOSSES).items()}
    health = (("sd_", "spread of the embedding, by domain"), ("effective_rank_", "effective dimensions, by domain"))
    for prefix, title in health:
        if lines := _numbers(log, {name: name.removeprefix(prefix) for name in log if name.startswith(prefix)}):
            panels[title] = (epoch, lines)
    if not panels:
        return None
    picture = png(plots.curves(panels, "epoch"))
    return {"uri": picture, "epochs": len(log), "panels": list(panels), "health": _health(log)}


def _health(log: pd.DataFrame) -> list[dict[str, Any]]:
    """The latent's state after the last epoch, by domain: spread and effective dimensions."""
    last = pd.to_numeric(log.iloc[-1], errors="coerce") if len(log) else pd.Series(dtype=float)
    domains = [name.removeprefix("sd_") for name in log if name.startswith("sd_")]
    return [
        {"domain": name, "sd": last[f"sd_{name}"], "rank": last.get(f"effective_rank_{name}", np.nan)}
        for name in domains
    ]


def projections(embeddings: Sequence[tuple[Embeddings, np.ndarray]], table: pd.DataFrame) -> list[dict[str, Any]]:
    """The embedding of each method flattened to two dimensions."""
    shown = []
    for one, z in embeddings:
        domain, label = table["domain"].to_numpy(str), table["label"].to_numpy(str)
        flat = project(z, domain)
        uri = None if flat.reason else png(plots.scatter(flat.points, domain[flat.rows], label[flat.rows]))
        name = method_name(str(one.attributes["method"]))
        size = {"shown": len(flat.rows), "of": len(z), "d": z.shape[1]}
        shown.append({"method": name, "uri": uri, "kind": flat.kind, "reason": flat.reason, **size})
    return shown


def png(picture: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def jpeg(picture: bytes) -> str:
    """A JPEG as a data URI."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"


def _json_row(line: str) -> dict[str, Any] | None:
    try:  # the last line of a killed training may be torn
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _numbers(log: pd.DataFrame, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of a log that are there and hold a number, under their names in prose."""
    numeric = {names[c]: pd.to_numeric(log[c], errors="coerce").to_numpy(float) for c in names if c in log}
    return {name: values for name, values in numeric.items() if np.isfinite(values).any()}
