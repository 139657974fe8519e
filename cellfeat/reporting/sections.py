"""The sections of a report, in their order. Adding one takes a function, its line in SECTIONS, and its template.

A function gets the `Material` and returns what its template shows as `it`, or None to leave the section out: a report
shows what was run, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cellfeat.core.files import as_written, read_json
from cellfeat.core.run_record import RECORD
from cellfeat.data.model_selection import SAMPLED
from cellfeat.evaluation.metrics import METRICS, confusion_matrix
from cellfeat.evaluation.metrics import scores as score_counts
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.published import load_published, published_beside_ours
from cellfeat.evaluation.separation import MAX_CELLS
from cellfeat.evaluation.table import align
from cellfeat.reporting import plots, score_tables
from cellfeat.reporting.palette import caption, class_style, in_reading_order, method_name
from cellfeat.reporting.plots import jpeg_uri, png_uri
from cellfeat.reporting.training_curves import autoencoder_curves, classifier_curves, detector_curves

if TYPE_CHECKING:
    import pandas as pd

    from cellfeat.reporting.material import Material, Scores

TILES_ACROSS = 10  # crops that fit side by side on the page
EXAMPLES = 4  # crops of one class and domain


class Section(NamedTuple):
    """One section: its heading, what it shows (None: nothing), and the template's name, which is its anchor too."""

    title: str
    make: Callable[[Material], dict[str, Any] | None]
    template: str


def glance(material: Material) -> dict[str, Any]:
    """How many cells were found, and the mean accuracy of each method."""
    rates = material.store.detection_rate()
    scores = material.scores
    shown = scores is not None and not material.compared and not scores.first.empty
    return {
        "cells": len(material.store),
        "images": int(rates["images"].sum()),
        "with_cell": int(rates["with_cell"].sum()),
        "lines": score_tables.glance(scores.first) if scores and shown else [],
        "protocol": scores.protocols[0] if scores and scores.protocols else "",
    }


def run(material: Material) -> dict[str, Any]:
    """Which methods, protocols and cells the report is about."""
    scores = material.scores
    labelled = material.cells[material.cells["label"] != ""]
    by_domain = labelled.groupby("domain").size()
    embedded = [method_name(str(one.attributes["method"])) for one in material.embeddings]
    compared = scores.table.drop_duplicates("method")["method"] if scores and material.compared else []
    return {
        "digest": material.store.digest,
        "cells": len(material.store),
        "features": " × ".join(map(str, material.store.feature_shape)),
        "methods": embedded or [method_name(name) for name in compared],
        "config": scores.config if scores else None,
        "protocols": scores.config["protocols"] if scores else [],
        "split_file": scores.split_file if scores else None,
        "labelled": {str(name): int(n) for name, n in by_domain.items()},
        "unlabelled": sorted(set(material.cells["domain"]) - set(by_domain.index)),
        "patients": _patients(scores, [str(name) for name in by_domain.index]) if scores else [],
        "trained": _pooled(scores) if scores else [],
        "adapt": scores.adapt if scores else None,
        "levels": _levels(scores) if scores else [],
    }


def _detected_classes(material: Material) -> dict[str, Any]:
    """By domain, how the classes that the detector itself predicts agree with the labels; nothing where it has one."""
    known = material.cells[(material.cells["detected_class"] != "") & (material.cells["label"] != "")]
    entries: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for domain, cells in known.groupby("domain"):
        true, predicted = (cells[name].to_numpy(str) for name in ("label", "detected_class"))
        classes = sorted({*true, *predicted})
        counts = confusion_matrix(true, predicted, classes)
        entries.append({"train": "detector", "test": str(domain), "classes": classes, "counts": counts})
        lines.append({"domain": str(domain), "cells": len(cells), **score_counts(counts)})
    return {"classes": lines, "confusions": png_uri(plots.confusions(entries)) if entries else None}


def _pooled(scores: Scores) -> list[str]:
    """What was learned from, where it is not each domain by itself."""
    return [] if scores.config.get("train", "each") == "each" else list(dict.fromkeys(scores.table["train"]))


def _levels(scores: Scores) -> list[str]:
    """Which classes counted as one, because some pair of domains labels at different levels."""
    joined: dict[str, set[str]] = {}
    for entry in scores.confusions:
        for label, compared in entry.get("compared_as", {}).items():
            joined.setdefault(compared, set()).add(class_style(label).name)
    return [f"{', '.join(sorted(names))} as {class_style(compared).name}" for compared, names in sorted(joined.items())]


def leaderboard(material: Material) -> dict[str, Any] | None:
    """A comparison's methods by accuracy across domains, one table a protocol."""
    if not material.compared or material.scores is None or material.scores.leaderboard is None:
        return None
    lines = material.scores.leaderboard.to_dict("records")
    named = [line | {"name": method_name(line["method"], line["classifier"])} for line in lines]
    tables = {name: [one for one in named if one["protocol"] == name] for name in material.scores.protocols}
    return {"tables": tables, "metrics": METRICS, "runs": material.scores.config["runs"]}


def not_run(material: Material) -> dict[str, Any] | None:
    """Methods of a comparison that were left out, and why."""
    if material.scores is None or not material.scores.not_run:
        return None
    return {"reasons": {method_name(name): reason for name, reason in material.scores.not_run.items()}}


def detection(material: Material) -> dict[str, Any] | None:
    """How many images have a cell, per domain, and the detector's average precision where it was measured."""
    rates = [{"domain": domain, **row} for domain, row in material.store.detection_rate().to_dict("index").items()]
    precision: list[dict[str, Any]] = []
    path = material.detector / "evaluation.json" if material.detector else None
    if path and path.is_file():
        with as_written(path, "evaluate the detector again (`train-net --eval-only`)"):
            precision = _precision(read_json(path))
    if not rates and not precision:
        return None
    published = load_published("detection").set_index("metric").to_dict("index")
    return {"rates": rates, "precision": precision, "published": published} | _detected_classes(material)


def _precision(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each dataset and task, and for each of its classes."""
    rows: list[dict[str, Any]] = []

    def number(value: Any) -> float | None:
        return None if value is None else float(value)

    for dataset, tasks in scores.items():
        for task, name in (("bbox", "boxes"), ("segm", "masks")):
            if values := tasks.get(task):
                said = {key: number(values.get(key)) for key in ("AP", "AP50", "AP75")}
                rows.append({"dataset": dataset, "what": name, **said})
                by_class = (
                    (key.removeprefix("AP-"), number(ap)) for key, ap in values.items() if key.startswith("AP-")
                )
                nothing = {"AP50": None, "AP75": None}  # measured over all classes alone
                rows += [{"dataset": dataset, "what": f"{name}, {c}", "AP": ap, **nothing} for c, ap in by_class]
    return rows


def classes(material: Material) -> dict[str, Any] | None:
    """Cells by class (rows, in the order of a differential count, unlabelled last) and domain (columns)."""
    cells = material.cells
    if not (cells["label"] != "").any():
        return None
    domains = sorted(set(cells["domain"]))
    grid = cells.groupby(["label", "domain"]).size()
    rows = [
        {"name": class_style(label).name, "counts": [int(grid.get((label, domain), 0)) for domain in domains]}
        for label in in_reading_order(cells["label"])
    ]
    return {"domains": domains, "rows": rows, "totals": [int((cells["domain"] == domain).sum()) for domain in domains]}


def montage(material: Material) -> dict[str, Any] | None:
    """A few cells of each class and domain, drawn at random: the crop above, its mask below."""
    cells = material.cells
    domains = sorted(set(cells["domain"]))
    if not domains:
        return None
    examples = min(EXAMPLES, max(1, TILES_ACROSS // len(domains)))
    if not (cells["label"] != "").any():  # one row of the table
        examples = max(1, TILES_ACROSS // len(domains))
    chosen = cells.sample(frac=1, random_state=0).groupby(["label", "domain"]).head(examples)
    rows = np.sort(chosen.index.to_numpy())
    crops, masks = material.store.read("crops", rows), material.store.read("masks", rows)
    strips = []
    for label in in_reading_order(cells["label"]):
        shown: list[dict[str, Any] | None] = []
        for domain in domains:
            at = ((cells["label"] == label) & (cells["domain"] == domain)).to_numpy()[rows]
            uri = jpeg_uri(plots.strip(crops[at], masks[at])) if at.any() else ""
            shown.append({"uri": uri, "n": int(at.sum())} if uri else None)
        strips.append({"name": class_style(label).name, "cells": shown})
    return {"domains": domains, "rows": strips}


def reconstructions(material: Material) -> dict[str, Any] | None:
    """Crops above the pictures that each autoencoder makes of them."""
    if material.reconstructions is None or not len(material.reconstructions[0]):
        return None
    rows, drawn = material.reconstructions
    crops = material.store.read("crops", rows)
    columns = plots.columns([crops, *drawn.values()])
    cells = material.cells.iloc[rows]
    captions = [caption(domain, label) for domain, label in zip(cells["domain"], cells["label"])]
    shown = [{"uri": jpeg_uri(one), "caption": text} for one, text in zip(columns, captions)]
    return {"rows": ["the cut-out", *(method_name(name) for name in drawn)], "shown": shown}


def training(material: Material) -> dict[str, Any] | None:
    """Losses over the trainings of the detector, of the autoencoder and of classifiers."""
    trainings = material.scores.trainings if material.scores else {}
    domains = sorted(set(material.cells["domain"]))
    curves = {method_name(title): classifier_curves(logs, domains) for title, logs in trainings.items()}
    found = {
        "detector": detector_curves(material.detector),
        "autoencoder": autoencoder_curves(material.autoencoder, domains),
        "classifiers": {name: drawn for name, drawn in curves.items() if drawn},
    }
    return found if any(found.values()) else None


def embedding(material: Material) -> dict[str, Any] | None:
    """Each embedding drawn in two dimensions, and how far it keeps laboratories and classes apart."""
    maps = _maps_compared(material) if material.compared else _maps(material)
    separation = material.scores.separation if material.scores else []
    measured = [one | {"name": method_name(one["method"])} for one in separation if one["domain_accuracy"] is not None]
    if not maps and not measured:
        return None
    ranked = material.scores.leaderboard if material.scores else None
    return {
        "maps": maps,
        "separation": measured,
        "measured_on": MAX_CELLS,
        "density_of": SAMPLED,
        "selection": _selection(ranked) if ranked is not None else [],
        "domains": material.cells["domain"].nunique(),
        "labelled": bool((material.cells["label"] != "").any()),
    }


def table(material: Material) -> dict[str, Any] | None:
    """The cross-domain table of each protocol, and the scored classes: once where all pairs have the same."""
    scores = material.scores
    if scores is None or scores.table.empty:
        return None
    rows = scores.table
    pairs = {name: score_tables.pairs(rows[rows["protocol"] == name]) for name in scores.protocols[:2]}
    classes = [row["classes"] for one in pairs.values() for row in one]
    return {
        "grids": [score_tables.grid(rows, protocol) for protocol in scores.protocols],
        "pairs": pairs,
        "classes": classes[0] if classes.count(classes[0]) == len(classes) else [],
        "alike": "shared" in scores.config["protocols"] and "shared" not in scores.protocols,
    }


def published(material: Material) -> dict[str, Any] | None:
    """Published accuracies with ours of the same method and pair of domains; a comparison's beside other sources'."""
    scores = material.scores
    if scores is None or scores.table.empty:
        return None
    images = material.store.images().groupby("domain").size().to_dict()
    rows = score_tables.beside(scores.table, published_beside_ours(scores.first, images, material.same_site))
    elsewhere = score_tables.elsewhere(scores.leaderboard) if scores.leaderboard is not None else []
    if not rows and not elsewhere:
        return None
    protocols = [name for name in ("paper", "code") if name in scores.protocols]
    return {"rows": rows, "protocols": protocols, "elsewhere": elsewhere}


def confusions(material: Material) -> dict[str, Any] | None:
    """The confusion matrices of every method under the first protocol."""
    scores = material.scores
    entries = [entry for entry in scores.confusions if entry["protocol"] in scores.protocols[:1]] if scores else []
    if not scores or not entries:
        return None
    return {"methods": score_tables.matrices(entries), "protocol": scores.protocols[0]}


def settings(material: Material) -> dict[str, Any] | None:
    """All settings that were recorded, in full."""
    shown = {"Run": material.config_text, "Store: made from": _pretty(material.store.provenance)}
    path = material.autoencoder / RECORD if material.autoencoder else None
    if path and path.is_file():
        with as_written(path, "train again"):
            shown["Autoencoder"] = _pretty(read_json(path).get("inputs", {}))
    for one in material.embeddings:
        method = method_name(str(one.attributes["method"]))
        try:
            shown[f"Embeddings: {method}"] = _pretty(json.loads(one.attributes["config"]))
        except (TypeError, ValueError, RecursionError):
            shown[f"Embeddings: {method}"] = str(one.attributes["config"])
    texts = {title: text for title, text in shown.items() if text.strip() not in ("", "{}")}
    return {"texts": texts} if texts else None


SECTIONS = [
    Section("At a glance", glance, "glance"),
    Section("Leaderboard", leaderboard, "leaderboard"),
    Section("Not run", not_run, "not-run"),
    Section("What was run", run, "run"),
    Section("Finding the cells", detection, "detection"),
    Section("Cells by class and domain", classes, "classes"),
    Section("The cells themselves", montage, "montage"),
    Section("Reconstructions", reconstructions, "reconstructions"),
    Section("Training", training, "training"),
    Section("The embedding, drawn flat", embedding, "embedding"),
    Section("Within a site and across sites", table, "table"),
    Section("Beside the published numbers", published, "published"),
    Section("What is mistaken for what", confusions, "confusions"),
    Section("Settings in full", settings, "settings"),
]


def _patients(scores: Scores, domains: list[str]) -> list[str]:
    """Whether the split kept patients apart, as sentences."""
    said, known, cells = [], 0, 0
    for name in domains:
        row = scores.patients[name]
        known, cells = known + row["known"], cells + row["cells"]
        count = f"{row['groups']:,} patient{'' if row['groups'] == 1 else 's'}"
        if 0 < row["known"] < row["cells"]:
            count += f" of {row['known']:,} of {row['cells']:,} cells"
        said.append(f"{name}: {count if row['known'] else 'unknown'}")
    lines = [f"{'; '.join(said)}."]
    if scores.divided:
        lines.append(f"{scores.divided:,} of them with cells on both sides of the split.")
    elif known:
        lines.append("The cells of a known patient are all on one side of the split.")
    if known < cells:
        lines.append(
            "Where patients are unknown, cells of one may be on both sides: accuracy at the same site is then better "
            "than it would be on new patients."
        )
    if known and "code" in scores.config["protocols"]:
        lines.append("Protocol code splits cells whatever patient they belong to.")
    return lines


def _maps(material: Material) -> list[dict[str, Any]]:
    """Of each embedding a map of the whole store."""
    domain, label = (material.cells[name].to_numpy(str) for name in ("domain", "label"))
    shown = []
    for one in material.embeddings:
        z = align(one, material.cells)
        flat = project(z, domain)
        uri = None if flat.reason else png_uri(plots.scatter(flat.points, domain[flat.rows], label[flat.rows]))
        said = {"kind": flat.kind, "reason": flat.reason, "shown": len(flat.rows), "of": len(z), "d": z.shape[1]}
        shown.append({"method": method_name(str(one.attributes["method"])), "uri": uri, **said})
    return shown


def _maps_compared(material: Material) -> list[dict[str, Any]]:
    """Of each method and each alignment of it the map that the comparison made, of its first seed."""
    domain, label = (material.cells[name].to_numpy(str) for name in ("domain", "label"))
    shown = []
    for title, one in material.scores.maps.items() if material.scores else ():
        rows, xy = np.array(one["rows"], int), np.array(one["xy"])
        uri = png_uri(plots.scatter(xy, domain[rows], label[rows])) if len(rows) else None
        said = {"kind": one["kind"], "reason": one["reason"], "shown": len(rows), "of": len(domain), "d": one["d"]}
        shown.append({"method": method_name(title), "uri": uri, **said})
    return shown


def _selection(leaderboard: pd.DataFrame) -> list[dict[str, Any]]:
    """Entropy and soft neighbourhood density across domains of each method, under the first protocol."""
    first = leaderboard[leaderboard["protocol"] == leaderboard["protocol"].iloc[0]]
    lines = first[["method", "classifier", "across_entropy", "across_snd"]].to_dict("records")
    return [line | {"name": method_name(line["method"], line["classifier"])} for line in lines]


def _pretty(content: Any) -> str:
    """Nested settings as indented lines; texts of several lines keep them."""
    if not isinstance(content, dict):
        return str(content)
    lines = []
    for key, value in content.items():
        text = _pretty(value)
        lines.append(f"{key}:\n    " + text.replace("\n", "\n    ") if "\n" in text else f"{key}: {text}")
    return "\n".join(lines)
