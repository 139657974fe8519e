"""What each section of the report shows, as plain values for the template; None where its part is absent."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.errors import CellfeatError
from cellfeat.evaluation import plots
from cellfeat.evaluation.palette import class_style, in_reading_order
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.published import load_published, published_beside_ours
from cellfeat.files import read_json, sha256_file

if TYPE_CHECKING:
    from cellfeat.store import Embeddings, Store

METHOD_NAMES = {"aecfe": "AE-CFE", "rcnn": "R-CNN features"}
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
TILES_ACROSS = 10  # crops that fit side by side on the page


def method_name(method: str) -> str:
    """What a method is called in prose."""
    return METHOD_NAMES.get(method, method)


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


def reconstructions(given: tuple[np.ndarray, np.ndarray, Sequence[str]] | None) -> list[dict[str, str]] | None:
    """Originals above the pictures that the autoencoder makes of them."""
    if given is None or not len(given[0]):
        return None
    originals, rebuilt, captions = given
    if not originals.shape == rebuilt.shape == (len(captions), *originals.shape[1:3], 3):
        raise CellfeatError(
            f"reconstructions: originals {originals.shape}, reconstructed {rebuilt.shape}, {len(captions)} captions; "
            "they must be (n, S, S, 3) twice and n"
        )
    return [{"uri": jpeg(one), "caption": text} for one, text in zip(plots.pairs(originals, rebuilt), captions)]


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
    return {"uri": png(plots.curves(panels, "epoch")), "epochs": len(log), "panels": list(panels)}


def projections(embeddings: Sequence[tuple[Embeddings, np.ndarray]], table: pd.DataFrame) -> list[dict[str, Any]]:
    """The embedding of each method flattened to two dimensions."""
    shown = []
    for one, z in embeddings:
        rows, xy = project(z, table["domain"].to_numpy(str))
        if len(rows):
            picture = plots.scatter(xy, table["domain"].to_numpy(str)[rows], table["label"].to_numpy(str)[rows])
            name = method_name(str(one.attributes["method"]))
            shown.append({"method": name, "uri": png(picture), "shown": len(rows), "of": len(z), "d": z.shape[1]})
    return shown


def scores(
    store: Store, evaluation_dir: Path | None, embeddings: Mapping[str, Path], same_site: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """The cross-domain table, the published numbers beside it, and the confusion matrices.

    Raises:
        CellfeatError: The evaluation is of another store or of other embeddings than those given.
    """
    if evaluation_dir is None:
        return None
    record = read_json(evaluation_dir / "evaluation.json")
    if record["inputs"]["store"] != store.digest:
        raise CellfeatError(f"{evaluation_dir}: evaluates another store; evaluate this one again")
    for method, path in embeddings.items():
        if record["inputs"]["embeddings"].get(method, {}).get("sha256") != sha256_file(path):
            raise CellfeatError(f"{evaluation_dir}: does not evaluate {path} as it is now; evaluate again")
    texts = dict.fromkeys(("method", "protocol", "train", "test", "metric", "classes", "reason"), str)
    table = pd.read_csv(
        evaluation_dir / "table.csv", dtype=texts, keep_default_na=False, na_values={"mean": "", "sd": "", "chance": ""}
    )
    matrices = read_json(evaluation_dir / "confusion.json")
    first = record["config"]["protocols"][0]
    images = store.images().groupby("domain").size().to_dict()
    return {
        "record": record,
        "tables": [
            _grid(table, protocol)
            for protocol in record["config"]["protocols"]
            if (table["protocol"] == protocol).any()
        ],
        "pairs": _pairs(table[table["protocol"] == first]),
        "glance": _glance(table[table["protocol"] == first]),
        "published": _beside(table, published_beside_ours(table, images, same_site)),
        "confusions": _matrices([entry for entry in matrices if entry["protocol"] == first]),
        "protocol": first,
    }


def _grid(table: pd.DataFrame, protocol: str) -> dict[str, Any]:
    chosen = table[table["protocol"] == protocol]
    domains, methods = sorted(set(chosen["train"])), list(dict.fromkeys(chosen["method"]))
    cells = {
        key: {"metrics": rows.set_index("metric").to_dict("index"), **rows.iloc[0][["reason", "n_test"]].to_dict()}
        for key, rows in chosen.groupby(["train", "test", "method"])
    }
    rows = [
        {
            "train": train,
            "methods": [
                {"name": method_name(method), "cells": [cells[train, test, method] for test in domains]}
                for method in methods
            ],
            "chance": [cells[train, test, methods[0]] for test in domains],
        }
        for train in domains
    ]
    return {"protocol": protocol, "domains": domains, "rows": rows, "runs": int(chosen["runs"].max())}


def _pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.drop_duplicates(["train", "test"]).to_dict("records")
    for row in rows:
        row["names"] = [class_style(name).name for name in in_reading_order(row["classes"].split(";")) if name]
    return rows


def _glance(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean accuracy within and across domains of each method, and last of the best constant answer."""
    accuracy = table[table["metric"] == "accuracy"]
    across = accuracy["train"] != accuracy["test"]
    sides = {"within": accuracy[~across], "across": accuracy[across]}
    lines = [
        {"name": method_name(method)}
        | {side: rows.loc[rows["method"] == method, "mean"].mean() for side, rows in sides.items()}
        for method in dict.fromkeys(accuracy["method"])
    ]
    return [*lines, {"name": "chance"} | {side: rows["chance"].mean() for side, rows in sides.items()}] if lines else []


def _beside(table: pd.DataFrame, published: pd.DataFrame) -> list[dict[str, Any]]:
    ours = table[table["metric"] == "accuracy"].set_index(["method", "protocol", "train", "test"])[["mean", "sd"]]
    rows = published.to_dict("records")
    for row in rows:
        row["name"] = method_name(row["method"])
        row["ours"] = {
            protocol: ours.loc[key].to_dict()
            for protocol in ("paper", "code")
            if (key := (row["method"], protocol, row["ours_train"], row["ours_test"])) in ours.index
        }
    return rows


def _matrices(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_method.setdefault(entry["method"], []).append(entry)
    return [
        {
            "method": method_name(method),
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
