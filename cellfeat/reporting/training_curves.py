"""Figures of trainings, from the logs that they write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.reporting import plots

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


CLASSIFIER_COLUMNS = {
    "loss": "whole loss",
    "classification_loss": "classification loss",
    "transfer_loss": "transfer loss",
    "accuracy": "class accuracy",
    "validation_loss": "validation loss",
    "entropy": "entropy of the target's predictions",
    "snd": "soft neighbourhood density of the target",
}


def classifier_curves(logs: Mapping[str, Path], domains: Iterable[str] = ()) -> dict[str, Any] | None:
    """What classifiers logged of each epoch, a panel a quantity and a line a fit: the challenge article's figures.

    Args:
        logs: By what a classifier was fitted for, its metrics.csv.
        domains: All domains of the page.
    """
    tables = {name: table for name, path in sorted(logs.items()) if (table := _table(path)) is not None}
    longest = max((len(table) for table in tables.values()), default=0)
    epochs = np.arange(1, longest + 1, dtype=float)
    panels: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    for name, table in tables.items():
        for title, values in _numbers(table, CLASSIFIER_COLUMNS).items():
            padded = np.concatenate([values, np.full(longest - len(values), np.nan)])
            panels.setdefault(title, (epochs, {}))[1][name] = padded
    if not panels:
        return None
    return {"uri": plots.png_uri(plots.curves(panels, "epoch", domains)), "panels": list(panels), "epochs": longest}


def _table(path: Path) -> pd.DataFrame | None:
    try:
        return pd.read_csv(path)
    except ValueError:  # of a training that was killed, or damaged
        return None


def detector_curves(detector_dir: Path | None) -> str | None:
    """Losses of the detector's training, from metrics.json (JSON lines)."""
    path = detector_dir / "metrics.json" if detector_dir else None
    if path is None or not path.is_file():
        return None
    log = pd.DataFrame(
        [row for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if (row := _json_row(line))]
    )
    parts = _numbers(log, DETECTOR_LOSSES)
    panels = {}
    iteration = _numbers(log, {"iteration": "iteration"}).get("iteration")
    if iteration is not None and (total := _numbers(log, {"total_loss": "whole loss"})):
        panels["whole loss"] = (iteration, total)
    if iteration is not None and parts:
        panels["its parts"] = (iteration, parts)
    return plots.png_uri(plots.curves(panels, "iteration")) if panels else None


def autoencoder_curves(autoencoder_dir: Path | None, domains: Iterable[str] = ()) -> dict[str, Any] | None:
    """Losses and health of the latent space over training, from metrics.csv; `domains` are all of the page."""
    path = autoencoder_dir / "metrics.csv" if autoencoder_dir else None
    if path is None or not path.is_file() or (log := _table(path)) is None:
        return None
    epoch = _numbers(log, {"epoch": "epoch"}).get("epoch", np.arange(len(log), dtype=float))
    panels = {title: (epoch, {title: line}) for title, line in _numbers(log, AUTOENCODER_LOSSES).items()}
    health = (("sd_", "spread of the embedding, by domain"), ("effective_rank_", "effective dimensions, by domain"))
    for prefix, title in health:
        if lines := _numbers(log, {name: name.removeprefix(prefix) for name in log if name.startswith(prefix)}):
            panels[title] = (epoch, lines)
    if not panels:
        return None
    picture = plots.png_uri(plots.curves(panels, "epoch", domains))
    return {"uri": picture, "epochs": len(log), "panels": list(panels), "health": _health(log)}


def _health(log: pd.DataFrame) -> list[dict[str, Any]]:
    """The latent's state after the last epoch, by domain: spread and effective dimensions."""
    last = pd.to_numeric(log.iloc[-1], errors="coerce") if len(log) else pd.Series(dtype=float)
    domains = [name.removeprefix("sd_") for name in log if name.startswith("sd_")]
    return [
        {"domain": name, "sd": last[f"sd_{name}"], "rank": last.get(f"effective_rank_{name}", np.nan)}
        for name in domains
    ]


def _json_row(line: str) -> dict[str, Any] | None:
    try:  # the last line of a killed training may be torn
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _numbers(log: pd.DataFrame, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of a log that are there and hold a number, under their names in prose."""
    numeric = {names[c]: pd.to_numeric(log[c], errors="coerce").to_numpy(float) for c in names if c in log}
    return {name: values for name, values in numeric.items() if np.isfinite(values).any()}
