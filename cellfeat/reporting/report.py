"""One HTML file, without links to anything outside, that tells a haematologist what was done and how well it works."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import cellfeat
from cellfeat.core.files import read_json, write_text
from cellfeat.evaluation.run import read_all
from cellfeat.evaluation.table import align
from cellfeat.reporting import score_sections, sections
from cellfeat.reporting.palette import method_name

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)


def write_report(
    output: str | Path,
    store: Store,
    embeddings: Sequence[str | Path],
    evaluation_dir: str | Path | None,
    autoencoder_dir: str | Path | None = None,
    detector_dir: str | Path | None = None,
    config_text: str = "",
    reconstructions: sections.Reconstructions | None = None,
    same_site: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of a run. A part that is absent is said to be so; the rest stands.

    Args:
        output: The .html file; figures are embedded in it.
        store: The cells.
        embeddings: Embedding files of this store, each of another method.
        evaluation_dir: What `evaluate` wrote about these embeddings.
        autoencoder_dir: Its metrics.csv and config.json are shown.
        detector_dir: Its metrics.json (JSON lines) and evaluation.json are shown.
        config_text: The run's configuration, shown as it is.
        reconstructions: Originals, by an autoencoder's name what it makes of them, all (n, S, S, 3) uint8 RGB, and n
            captions.
        same_site: Our domain's name to the paper's where both come from the same place, as
            {"pbc-barcelona": "Acevedo-20"}; equal names match anyway.

    Returns:
        `output`.

    Raises:
        CellfeatError: The embeddings or the evaluation are not of this store, or reconstructions do not fit together.
    """
    evaluation_dir, autoencoder_dir, detector_dir = (
        None if folder is None else Path(folder) for folder in (evaluation_dir, autoencoder_dir, detector_dir)
    )
    read = read_all(store, embeddings)
    methods = {str(one.attributes["method"]): Path(path) for one, path in zip(read, embeddings)}
    scores = score_sections.scores(store, evaluation_dir, methods, same_site)  # what may be refused comes first
    pictures = sections.reconstructions(reconstructions)
    table = store.table()
    context = {
        "version": cellfeat.__version__,
        "today": datetime.date.today().isoformat(),
        "store": {"digest": store.digest, "cells": len(store), "features": " × ".join(map(str, store.feature_shape))},
        "methods": [method_name(name) for name in methods],
        "settings": _settings(store, read, autoencoder_dir, config_text),
        "detection": sections.detection(store, detector_dir),
        "counts": sections.counts(table),
        "montage": sections.montage(store, table),
        "reconstructions": pictures,
        "detector_curves": sections.detector_curves(detector_dir),
        "autoencoder_curves": sections.autoencoder_curves(autoencoder_dir),
        "projections": sections.projections([(one, align(one, table)) for one in read], table),
        "scores": scores,
    }
    write_text(output, environment().get_template("report.html.j2").render(context))
    log.info("%s: %.1f MB", output, Path(output).stat().st_size / 1e6)
    return Path(output)


def _settings(
    store: Store, embeddings: Sequence[Any], autoencoder_dir: Path | None, config_text: str
) -> dict[str, str]:
    """What to print in full, under its title."""
    shown = {"Run": config_text, "Store: made from": _pretty(store.provenance)}
    path = autoencoder_dir / "config.json" if autoencoder_dir else None
    if path and path.is_file():
        shown["Autoencoder"] = _pretty(read_json(path))
    for one in embeddings:
        method = method_name(str(one.attributes["method"]))
        try:
            shown[f"Embeddings: {method}"] = _pretty(json.loads(one.attributes["config"]))
        except (TypeError, json.JSONDecodeError):
            shown[f"Embeddings: {method}"] = str(one.attributes["config"])
    return {title: text for title, text in shown.items() if text.strip() not in ("", "{}")}


def _pretty(content: Any) -> str:
    """Nested settings as indented lines; texts of several lines keep them."""
    if not isinstance(content, dict):
        return str(content)
    lines = []
    for key, value in content.items():
        text = _pretty(value)
        lines.append(f"{key}:\n    " + text.replace("\n", "\n    ") if "\n" in text else f"{key}: {text}")
    return "\n".join(lines)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def _nats(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _heat(value: float | None, strength: float = 1.0) -> str:
    """Background colour of a cell, white to blue; dark text stays readable on all of it."""
    if value is None or math.isnan(value):
        return "transparent"
    share = min(max(value, 0.0), 1.0) * strength
    return "rgb({:.0f},{:.0f},{:.0f})".format(*(255 + share * (full - 255) for full in (122, 182, 222)))


def environment() -> Environment:
    """Jinja's, with the filters that the templates use."""
    made = Environment(
        loader=PackageLoader("cellfeat.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=_percent, heat=_heat, nats=_nats, signed=_signed, thousands="{:,}".format)
    return made
