"""`cellfeat profile`: what WBC-Profiler shows of its profiles, as tables and figures in one folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from cellfeat.core.files import atomic_path, write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.split import units_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.profile_scores import Halves, half_half, rank_signatures
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.run import read_all
from cellfeat.evaluation.table import align
from cellfeat.methods import folder as folders
from cellfeat.methods.psd import PSD
from cellfeat.reporting import profile_plots
from cellfeat.reporting.palette import method_name
from cellfeat.reporting.plots import scatter

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)

TOP = 256  # signatures in the figures, as in the article's figure 1c
EXAMPLES = 3  # reconstructed cells of each class


def profile(
    store: Store, fitted: str | Path, output: str | Path, beside: Sequence[str | Path] = (), domain: str | None = None
) -> Path:
    """Show the profiles of a fitted `psd` as the WBC-Profiler article does.

    The pooling is the one whose profiles a linear machine names best (pooling.csv). `output` gets what
    `report_profiles` writes, and reconstructions.png.

    Args:
        store: The one that `psd` was fitted on.
        fitted: Folder that it was fitted in; of a comparison: methods/psd/seed-0/fit.
        output: The folder.
        beside: Embedding files of other methods, whose F1 is drawn beside.
        domain: Cells of this domain alone.

    Returns:
        `output`.

    Raises:
        CellfeatError: Another method was fitted there, or too few cells have a label.
    """
    method = folders.reopen(Path(fitted), store)
    if not isinstance(method, PSD):
        raise CellfeatError(f"{fitted}: {method.name} has no signatures", "give the folder of a fitted psd")
    cells = store.table()
    if domain is not None and domain not in (there := sorted(set(cells["domain"]))):
        raise CellfeatError(f"domain {domain!r}: not in the store", f"choose from {', '.join(there)}")
    chosen = (cells["label"] != "").to_numpy() & (True if domain is None else (cells["domain"] == domain).to_numpy())
    rows, label = np.flatnonzero(chosen), cells["label"].to_numpy(str)[chosen]
    others = (
        {str(one.attributes["method"]): align(one, cells)[chosen] for one in read_all(store, beside)} if beside else {}
    )
    pooled = {pooling: method.pooled(store, Path(fitted), pooling)[rows] for pooling in ("mean", "max")}
    unit = (cells["domain"] + "/" + units_of(cells)).to_numpy(str)[chosen]
    halves = {pooling: half_half(z, label, unit=unit) for pooling, z in pooled.items()}
    best = max(halves, key=lambda pooling: halves[pooling].macro)
    lines = [{"pooling": name, "macro_f1": one.macro, "chosen": name == best} for name, one in halves.items()]
    write_text(Path(output) / "pooling.csv", csv_text(pd.DataFrame(lines)))
    dictionary = method.dictionary(Path(fitted)) if method.config.layers == 1 else None
    domains = cells["domain"].to_numpy(str)[chosen]
    report_profiles(pooled[best], label, domains, output, dictionary, others, halves[best], unit)
    if method.config.layers == 1:
        shown = pd.Series(rows).groupby(label).head(EXAMPLES).to_numpy()
        drawn = method.reconstruct(store, shown, Path(fitted))
        picture = profile_plots.reconstructed(store.read("crops", shown), drawn, cells["label"].to_numpy(str)[shown])
        _save(picture, Path(output) / "reconstructions.png")
    log.info("%s: %s pooling, macro F1 %.3f", output, best, halves[best].macro)
    return Path(output)


def report_profiles(
    z: np.ndarray,
    label: np.ndarray,
    domain: np.ndarray,
    output: str | Path,
    dictionary: np.ndarray | None = None,
    beside: Mapping[str, np.ndarray] | None = None,
    halves: Halves | None = None,
    unit: np.ndarray | None = None,
) -> pd.DataFrame:
    """Write f1.csv, confusion.csv, signatures.csv and the figures of labelled profiles into a folder.

    Args:
        z: (n, d) float32 profiles.
        label: (n,) classes, none of them "".
        domain: (n,) names.
        output: The folder; gets f1.png, confusion.png, class_means.png, heat_map.png, tsne.png, lda.png and
            dictionary.png too.
        dictionary: (3·p², k) kernels of p × p px, channel by channel; None leaves its figure out.
        beside: By method, embeddings (n, d) of the same cells, whose F1 is drawn beside.
        halves: What `half_half` said of z, if it was asked before.
        unit: As in `half_half`.

    Returns:
        f1.csv: method, and the columns of `Halves.f1`.
    """
    output = Path(output)
    halves = halves or half_half(z, label, unit=unit)
    f1 = {"psd": halves.f1} | {
        method: half_half(other, label, unit=unit).f1 for method, other in (beside or {}).items()
    }
    signatures = rank_signatures(z, label)
    top = signatures["signature"].to_numpy()[:TOP]
    flat = project(z[:, top], domain, kind="t-SNE")
    figures = {
        "f1": profile_plots.f1_bars({method_name(method): table for method, table in f1.items()}),
        "confusion": profile_plots.confusion(halves.confusion, halves.classes),
        "class_means": profile_plots.class_means(z[:, top], label),
        "heat_map": profile_plots.heat_map(z[:, top], label),
        "lda": scatter(_lda(z[:, top], label), domain, label),
    }
    if flat.reason:
        log.warning("%s: not drawn: %s", output / "tsne.png", flat.reason)
    else:
        figures["tsne"] = scatter(flat.points, domain[flat.rows], label[flat.rows])
    if dictionary is not None:
        figures["dictionary"] = profile_plots.kernels(dictionary, top.tolist())
    table = pd.concat([one.assign(method=method) for method, one in f1.items()], ignore_index=True)
    table = table[["method", "label", "cells", "f1", "sd"]]
    counts = pd.DataFrame(halves.confusion, index=list(halves.classes), columns=list(halves.classes))
    write_text(output / "f1.csv", csv_text(table))
    write_text(output / "confusion.csv", csv_text(counts.rename_axis("true").reset_index()))
    write_text(output / "signatures.csv", csv_text(signatures))
    for name, picture in figures.items():
        _save(picture, output / f"{name}.png")
    return table


def _lda(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The first two discriminants (n, 2); shrunk covariance, for there are often fewer cells than signatures."""
    scaled = StandardScaler().fit_transform(z)
    axes = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit_transform(scaled, label)[:, :2]
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))  # two classes have one discriminant


def _save(picture: bytes, path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(picture)
