"""The figures of WBC-Profiler, each returned as the bytes of a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellfeat.reporting.palette import class_style, domain_colours, in_reading_order
from cellfeat.reporting.plots import FAINT, INK, WIDTH, in_legend, plain, png_bytes

MARK = "#d1242f"  # the article marks its ranked signatures in red


def kernels(dictionary: np.ndarray, ranked: Sequence[int] = ()) -> bytes:
    """All kernels as colour pictures, each stretched to its own range; the ranked ones first, in a red box.

    Args:
        dictionary: (3·p², k) kernels of p × p px, channel by channel.
        ranked: Numbers of the kernels that contribute most, in order.
    """
    side, count = round((len(dictionary) / 3) ** 0.5), dictionary.shape[1]
    order = [*ranked, *sorted(set(range(count)) - set(ranked))]
    shown = dictionary[:, order].T.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
    low, high = shown.min((1, 2, 3), keepdims=True), shown.max((1, 2, 3), keepdims=True)
    tiles = np.pad((shown - low) / np.maximum(high - low, 1e-9), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    across = int(np.ceil(count**0.5))
    blank = np.ones((-count % across, *tiles.shape[1:]))
    grid = np.concatenate([tiles, blank]).reshape(-1, across, *tiles.shape[1:])
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in grid], axis=0)
    figure = Figure(figsize=(WIDTH, WIDTH * picture.shape[0] / picture.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, interpolation="nearest")
    axes.axis("off")
    edge = side + 2  # px of a tile with its margin
    for k in range(len(ranked) if len(ranked) < count else 0):
        corner = (k % across * edge - 0.5, k // across * edge - 0.5)
        axes.add_patch(Rectangle(corner, edge, edge, fill=False, edgecolor=MARK, linewidth=1.5))
    return png_bytes(figure)


def class_means(z: np.ndarray, label: np.ndarray) -> bytes:
    """The mean profile of each class, a panel a class, over the signatures (n, d) in the order given."""
    classes = in_reading_order(label)
    figure = Figure(figsize=(WIDTH, 0.9 * len(classes) + 0.6), layout="constrained")
    panels = figure.subplots(len(classes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, classes):
        mean = z[label == name].mean(0)
        axes.bar(np.arange(len(mean)), mean, width=1, color=INK)
        axes.set_ylabel(class_style(name).name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
        axes.margins(x=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("signature, by importance")
    return png_bytes(figure)


def heat_map(z: np.ndarray, label: np.ndarray) -> bytes:
    """The classes' mean profiles less the mean of the classes, in units of the signature's sd over the cells."""
    classes = in_reading_order(label)
    means = np.stack([z[label == name].mean(0) for name in classes])
    deviation = (means - means.mean(0)) / np.maximum(z.std(0), 1e-9)
    figure = Figure(figsize=(WIDTH, 0.35 * len(classes) + 1.2), layout="constrained")
    axes = figure.subplots()
    limit = max(float(np.abs(deviation).max()), 1e-9)
    image = axes.imshow(deviation, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_yticks(range(len(classes)), [class_style(name).name for name in classes], fontsize=8)
    axes.set_xlabel("signature, by importance")
    figure.colorbar(image, ax=axes, label="class mean − mean (sd)")
    return png_bytes(figure)


def confusion(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Cells by true class (rows) and predicted class (columns): rounded counts, and their share of the column.

    The share on the diagonal is the class's precision.

    Args:
        counts: (k, k), mean over the repetitions.
        classes: The k classes, in the order of `counts`.
    """
    order = in_reading_order(classes)
    at = [list(classes).index(name) for name in order]
    counts = counts[np.ix_(at, at)]
    total = counts.sum(axis=0, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    names = [class_style(name).name for name in order]
    size = max(4.5, 0.75 * len(names) + 1.8)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts >= 0.5):
        colour = "white" if share[i, j] > 0.6 else INK
        text = f"{counts[i, j]:.0f}\n{100 * share[i, j]:.0f} %"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true class", title="cells, and share of the predicted class (precision)")
    plain(axes)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_color(FAINT)
    return png_bytes(figure)


def f1_bars(f1: Mapping[str, pd.DataFrame]) -> bytes:
    """F1 of each class and its mean over the classes, a bar a method; whiskers are the sd over the halvings.

    Args:
        f1: By a method's name in prose, a table as `Halves.f1`, all of the same classes.
    """
    first = next(iter(f1.values()))
    labels = [*in_reading_order(first["label"].iloc[:-1]), "macro"]
    colours = domain_colours(f1)
    width = 0.8 / len(f1)
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, (method, table) in enumerate(f1.items()):
        rows = table.set_index("label").loc[labels]
        at = np.arange(len(labels)) + (k - (len(f1) - 1) / 2) * width
        axes.bar(at, rows["f1"], width, yerr=rows["sd"], color=colours[method][0], label=in_legend(method), ecolor=INK)
    names = [*(class_style(name).name for name in labels[:-1]), "mean of the classes"]
    axes.set_xticks(range(len(labels)), names, rotation=35, ha="right", fontsize=8)
    axes.set(ylim=(0, 1), ylabel="F1")
    axes.grid(axis="y", color="#eceff1")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    plain(axes)
    return png_bytes(figure)


def reconstructed(crops: np.ndarray, drawn: np.ndarray, label: np.ndarray) -> bytes:
    """Cells of each class (a row a class): each crop, and on its right what its signatures make of it.

    Args:
        crops: (n, S, S, 3) uint8 RGB.
        drawn: (n, S, S, 3) uint8 RGB.
        label: (n,) classes.
    """
    classes = in_reading_order(label)
    most = max(int((label == name).sum()) for name in classes)
    figure = Figure(figsize=(1.8 + 1.9 * most, 1.0 * len(classes)))
    grid = figure.subplots(len(classes), most, squeeze=False)
    figure.subplots_adjust(left=1.8 / (1.8 + 1.9 * most), right=1, top=1, bottom=0, wspace=0.05, hspace=0.05)
    for axes in grid.ravel():
        axes.axis("off")
    for row, name in zip(grid, classes):
        row[0].text(-0.05, 0.5, class_style(name).name, ha="right", va="center", fontsize=8, transform=row[0].transAxes)
        for axes, k in zip(row, np.flatnonzero(label == name)):
            axes.imshow(np.concatenate([crops[k], drawn[k]], axis=1))
    return png_bytes(figure)
