"""Figures of the report, each returned as the bytes of a PNG or, for photographs, of a JPEG."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from cellfeat.reporting.palette import class_style, domain_colours, in_reading_order

WIDTH, DPI = 10.0, 110  # inches, dots per inch: sharp on a page of 1,000 px
INK, FAINT = "#33383d", "#c9ced3"
OUTLINE = np.array([0, 158, 115], np.float32)
GREY = "#90a4ae"  # of lines when the strokes are used up
STROKES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 4)))
TITLE = 24  # letters of two names that fit above a matrix in one line


def scatter(xy: np.ndarray, domain: np.ndarray, label: np.ndarray) -> bytes:
    """Two views of a projection side by side: coloured by domain, and by class; one where that is all there is.

    Args:
        xy: (n, 2).
        domain: (n,) names.
        label: (n,) classes, "" where unknown.
    """
    views: list[tuple[Callable[[Any, np.ndarray, np.ndarray], None], np.ndarray]] = []
    if len(set(domain)) > 1 or not any(label):
        views.append((points_by_domain, domain))
    if any(label):
        views.append((points_by_class, label))
    figure = Figure(figsize=(WIDTH / 2 * len(views), 5.6), layout="constrained")
    panels = figure.subplots(1, len(views), squeeze=False)[0]
    for axes, (draw, names) in zip(panels, views):
        draw(axes, xy, names)
        axes.set(xticks=[], yticks=[])
        legend_below(axes)
        plain(axes)
        axes.spines[:].set_visible(False)
    return png_bytes(figure)


def points_by_domain(axes: Any, points: np.ndarray, domain: np.ndarray) -> None:
    """Draw points (n, 2), or (n, 3) on axes of three dimensions, in the colours of their domains (n,)."""
    colours = domain_colours(domain)
    order = np.random.default_rng(0).permutation(len(points))  # no domain is painted over another
    for name, (colour, _) in colours.items():
        axes.scatter(*points[:0].T, s=28, color=colour, label=in_legend(name))
    axes.scatter(*points[order].T, s=9, c=[colours[name][0] for name in domain[order]], alpha=0.75, linewidths=0)
    axes.set_title("by domain")


def points_by_class(axes: Any, points: np.ndarray, label: np.ndarray) -> None:
    """Draw points (n, 2), or (n, 3) on axes of three dimensions, in the looks of their classes (n,), "" unknown."""
    names = in_reading_order(label)
    looks: dict[str, dict[str, Any]] = {}
    for name in names:
        style = class_style(name)
        size = 26 if style.marker in "*PX" else 13
        looks[name] = {"s": size, "color": style.colour, "marker": style.marker, "alpha": 0.8, "linewidths": 0}
        axes.scatter(*points[:0].T, label=style.name, **looks[name])
    for name in reversed(names):
        axes.scatter(*points[label == name].T, **looks[name])
    axes.set_title("by class")


def in_legend(name: str) -> str:
    """A name that a legend shows: matplotlib leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def legend_below(axes: Axes) -> None:
    """The legend of one panel, beneath it."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, frameon=False, fontsize=8, markerscale=1.3)


def curves(
    columns: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], xlabel: str, domains: Iterable[str] = ()
) -> bytes:
    """Small multiples of lines over training time.

    Args:
        columns: Panel title to (x (n,), {line name: y (n,)}). A name is drawn alike in all panels; one legend has the
            names of lines that share a panel.
        domains: All domains of the page: a line of that name has the domain's colour, others are dark or grey.
    """
    colours = domain_colours(domains)
    named = dict.fromkeys(name for _, lines in columns.values() if len(lines) > 1 for name in lines)
    inks = cycle((ink, stroke) for ink in (INK, GREY) for stroke in STROKES)
    strokes = dict(zip((name for name in named if name not in colours), inks))
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(WIDTH, 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (title, (x, lines)) in zip(panels, columns.items()):
        for name, y in lines.items():
            shown = np.isfinite(y)
            marker = "o" if shown.sum() == 1 else None
            ink, stroke = strokes.get(name, (INK, "-"))
            axes.plot(
                x[shown],
                y[shown],
                color=colours[name][0] if name in colours else ink,
                linestyle=stroke,
                linewidth=1.5,
                label=in_legend(name),
                marker=marker,
                markersize=3,
            )
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y", color="#eceff1")
        plain(axes)
    for axes in panels[len(columns) :]:
        axes.remove()
    if named:
        drawn = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels())]
        handles = {label: handle for handle, label in reversed(drawn)}
        labels = [in_legend(name) for name in named]
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8
        )
    return png_bytes(figure)


def confusions(entries: Sequence[Mapping]) -> bytes:
    """A grid of confusion matrices: a row for what was trained on, a column for each scored domain.

    Every matrix has the same axes; classes that take no part in a pair are grey. Colour and number are the share, in %,
    of the true class's cells.

    Args:
        entries: train, test, classes and counts (k, k) of each pair, in the grid's order.
    """
    classes = in_reading_order(name for entry in entries for name in entry["classes"])
    names = [class_style(name).name for name in classes]
    trained, tested = (list(dict.fromkeys(entry[side] for entry in entries)) for side in ("train", "test"))
    side = (WIDTH - 1.5) / max(len(tested), 2)
    numbers = side / len(classes) > 0.22
    width = 1.5 + side * len(tested)
    figure = Figure(figsize=(width, 2.0 + side * len(trained)), layout="constrained")
    grid = figure.subplots(len(trained), len(tested), squeeze=False, sharex=True, sharey=True)
    by_pair = {(entry["train"], entry["test"]): entry for entry in entries}
    for row, train in enumerate(trained):
        for column, test in enumerate(tested):
            axes = grid[row, column]
            _confusion(axes, by_pair.get((train, test)), classes, numbers)
            between = "\n→ " if len(train + test) > TITLE else " → "
            axes.set_title(f"{train}{between}{test}", fontsize=9 if len(tested) < 4 else 7.5)
            axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(classes)), names, fontsize=7)
            axes.tick_params(length=0)
        grid[row, 0].set_ylabel("true class", fontsize=8, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("called", fontsize=8, color=INK)
    return png_bytes(figure)


def _confusion(axes: Axes, entry: Mapping | None, classes: Sequence[str], numbers: bool) -> None:
    axes.set_facecolor("#e9ecee")
    shares = np.full((len(classes), len(classes)), np.nan)
    if entry is not None:
        at = [classes.index(name) for name in entry["classes"]]
        counts = np.asarray(entry["counts"], float)
        total = counts.sum(axis=1, keepdims=True)
        shares[np.ix_(at, at)] = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1)
    for side in axes.spines.values():
        side.set_color(FAINT)
    if entry is None:
        axes.text(0.5, 0.5, "no result", ha="center", va="center", transform=axes.transAxes, fontsize=8, color=INK)
    for i, j in np.argwhere(np.nan_to_num(shares) >= 0.005) if numbers else ():
        colour = "white" if shares[i, j] > 0.6 else INK
        axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6, color=colour)


def strip(crops: np.ndarray, masks: np.ndarray | None = None) -> bytes:
    """Crops in a row; under each, if masks are given, the same crop faded outside its outlined mask.

    Args:
        crops: (n, S, S, 3) uint8 RGB.
        masks: (n, S, S) uint8 0/1.
    """
    rows = [_row(crops)]
    if masks is not None:
        rows.append(_row(np.stack([outlined(crop, mask) for crop, mask in zip(crops, masks)])))
    return _jpeg(np.concatenate(rows))


def columns(stacks: Sequence[np.ndarray]) -> list[bytes]:
    """One picture a cell, its views one below the other.

    Args:
        stacks: The views, from top to bottom, each (n, S, S, 3) uint8 RGB.
    """
    return [_jpeg(np.concatenate([_row(view[None]) for view in views])) for views in zip(*stacks)]


def outlined(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The crop faded outside the mask, with the mask's edge drawn on it; all uint8, (S, S, 3) and (S, S)."""
    inside = np.pad(mask.astype(bool), 2)
    core = np.ones_like(mask, dtype=bool)
    for dy, dx in ((0, 2), (4, 2), (2, 0), (2, 4), (1, 2), (3, 2), (2, 1), (2, 3)):
        core &= inside[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
    inside = inside[2:-2, 2:-2]
    picture = np.where(inside[..., None], crop, 0.35 * crop + 0.65 * 255)
    picture[inside & ~core] = OUTLINE
    return picture.astype(np.uint8)


def _row(crops: np.ndarray, gap: int = 4) -> np.ndarray:
    framed = np.pad(crops, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), axis=1)


def plain(axes: Axes) -> None:
    """Small dark text, and thin lines on the left and beneath only."""
    axes.title.set_fontsize(10)
    axes.title.set_color(INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set(fontsize=8, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    for side in axes.spines.values():
        side.set_color(FAINT)


def png_bytes(figure: Figure) -> bytes:
    """A figure as a PNG of `DPI`; every figure is written here.

    Names of classes, domains and methods are text: a dollar sign in them begins no formula.
    """
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with rc_context({"text.parse_math": False}):  # of labels that are made while drawing
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def png_uri(picture: bytes) -> str:
    """A PNG as a data URI."""
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def jpeg_uri(picture: bytes) -> str:
    """A JPEG as a data URI."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}"


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
