"""What profiles say of the classes, as WBC-Profiler reports it: F1 of a linear machine, signatures, figures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cellfeat.core.files import atomic_path, write_text
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.projection import project
from cellfeat.reporting.palette import in_reading_order
from cellfeat.reporting.plots import png_bytes, scatter

log = logging.getLogger(__name__)

TOP = 256  # signatures in the figures
KERNELS_SHOWN = 256
REPETITIONS = 10


def half_half_f1(z: np.ndarray, label: np.ndarray, repetitions: int = REPETITIONS, seed: int = 0) -> pd.DataFrame:
    """F1 of each class by a linear support vector machine that learns from one half of the cells, over random halves.

    Args:
        z: (n, d) profiles; they are z-scored by the learning half.
        label: (n,) classes, each of at least two cells.
        repetitions: Stratified halvings.
        seed: Of the halvings.

    Returns:
        One row a class and one, "macro", of their mean: label, cells, f1 (mean), sd (over the repetitions).

    Raises:
        CellfeatError: There are fewer than two classes, or one of a single cell.
    """
    classes, counts = np.unique(label, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        raise CellfeatError(
            f"profiles: classes {dict(zip(classes.tolist(), counts.tolist()))}: two cells of two needed"
        )
    scores = []
    for learned, tested in StratifiedShuffleSplit(repetitions, test_size=0.5, random_state=seed).split(z, label):
        machine = make_pipeline(StandardScaler(), LinearSVC(random_state=seed))
        named = machine.fit(z[learned], label[learned]).predict(z[tested])
        scores.append(f1_score(label[tested], named, labels=classes, average=None, zero_division=0))
    each = np.array(scores)
    each = np.column_stack([each, each.mean(1)])
    cells = [*counts.tolist(), len(label)]
    return pd.DataFrame({"label": [*classes, "macro"], "cells": cells, "f1": each.mean(0), "sd": each.std(0)})


def rank_signatures(z: np.ndarray, label: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Dimensions of the profiles, the most telling first, by the impurity that they take from a random forest.

    Returns:
        One row a dimension: signature (its number in z), importance (they add up to 1).
    """
    forest = RandomForestClassifier(200, random_state=seed, class_weight="balanced").fit(z, label)
    order = np.argsort(-forest.feature_importances_, kind="stable")
    return pd.DataFrame({"signature": order, "importance": forest.feature_importances_[order]})


def report_profiles(
    z: np.ndarray, label: np.ndarray, domain: np.ndarray, output: str | Path, dictionary: np.ndarray | None = None
) -> pd.DataFrame:
    """Write f1.csv, signatures.csv and the figures of labelled profiles into a folder.

    Args:
        z: (n, d) float32 profiles.
        label: (n,) classes; cells without one ("") are left out.
        domain: (n,) names.
        output: The folder; gets dictionary.png, class_means.png, heat_map.png, tsne.png and lda.png too.
        dictionary: (3·p², k) kernels of p × p px, channel by channel; None leaves its figure out.

    Returns:
        f1.csv, see `half_half_f1`.
    """
    output = Path(output)
    known = label != ""
    z, label, domain = z[known], label[known], domain[known]
    f1 = half_half_f1(z, label)
    signatures = rank_signatures(z, label)
    write_text(output / "f1.csv", f1.to_csv(index=False, lineterminator="\n"))
    write_text(output / "signatures.csv", signatures.to_csv(index=False, lineterminator="\n"))
    top = signatures["signature"].to_numpy()[:TOP]
    flat = project(z[:, top], domain, kind="t-SNE")
    figures = {
        "class_means.png": class_means(z[:, top], label),
        "heat_map.png": heat_map(z[:, top], label),
        "lda.png": scatter(_lda(z, label), domain, label),
    }
    if flat.reason:
        log.warning("%s: not drawn: %s", output / "tsne.png", flat.reason)
    else:
        figures["tsne.png"] = scatter(flat.points, domain[flat.rows], label[flat.rows])
    if dictionary is not None:
        figures["dictionary.png"] = kernels(dictionary)
    for name, content in figures.items():
        with atomic_path(output / name) as partial:
            partial.write_bytes(content)
    macro = f1.iloc[-1]
    log.info("%s: %d cells, %d classes, macro F1 %.3f ± %.3f", output, len(z), len(f1) - 1, macro["f1"], macro["sd"])
    return f1


def kernels(dictionary: np.ndarray) -> bytes:
    """PNG of the first 256 kernels (3·p², k) as colour pictures, each stretched to its own range."""
    side = round((len(dictionary) / 3) ** 0.5)
    shown = dictionary[:, :KERNELS_SHOWN].T.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    low, high = shown.min((1, 2, 3), keepdims=True), shown.max((1, 2, 3), keepdims=True)
    tiles = np.pad((shown - low) / np.maximum(high - low, 1e-9), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    across = int(np.ceil(len(tiles) ** 0.5))
    blank = np.ones((-len(tiles) % across, *tiles.shape[1:]))
    grid = np.concatenate([tiles, blank]).reshape(-1, across, *tiles.shape[1:])
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in grid], axis=0)
    figure = Figure(figsize=(8, 8 * picture.shape[0] / picture.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, interpolation="nearest")
    axes.axis("off")
    return png_bytes(figure)


def class_means(z: np.ndarray, label: np.ndarray) -> bytes:
    """PNG of the mean profile of each class, one line a panel, over the signatures (n, d) in the order given."""
    classes = in_reading_order(label)
    figure = Figure(figsize=(10, 0.9 * len(classes) + 0.6), layout="constrained")
    panels = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, classes):
        mean = z[label == name].mean(0)
        axes.bar(np.arange(len(mean)), mean, width=1, color="#33383d")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
        axes.margins(x=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("signature, by importance")
    return png_bytes(figure)


def heat_map(z: np.ndarray, label: np.ndarray) -> bytes:
    """PNG of the classes' mean profiles less the mean of the classes, in units of the signature's sd over the cells."""
    classes = in_reading_order(label)
    means = np.stack([z[label == name].mean(0) for name in classes])
    deviation = (means - means.mean(0)) / np.maximum(z.std(0), 1e-9)
    figure = Figure(figsize=(10, 0.35 * len(classes) + 1.2), layout="constrained")
    axes = figure.subplots()
    limit = max(float(np.abs(deviation).max()), 1e-9)
    image = axes.imshow(deviation, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xlabel("signature, by importance")
    figure.colorbar(image, ax=axes, label="class mean − mean (sd)")
    return png_bytes(figure)


def _lda(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The first two discriminants (n, 2); shrunk covariance, for there are often fewer cells than signatures."""
    scaled = StandardScaler().fit_transform(z)
    axes = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit_transform(scaled, label)[:, :2]
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))  # two classes have one discriminant
