"""The exploratory figures, each returned as the bytes of a PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cellfeat.reporting.palette import class_style, domain_colours, in_reading_order
from cellfeat.reporting.plots import (
    FAINT,
    INK,
    WIDTH,
    in_legend,
    legend_below,
    plain,
    png_bytes,
    points_by_class,
    points_by_domain,
)

ACROSS = 3  # panels side by side
TILE, NAMES, LINE = 1.05, 1.6, 0.15  # inches: a mean image, the names on its left, a line of those above
ELEVATION, AZIMUTHS = 20, (-60, 30)  # degrees; the two viewpoints are a quarter turn apart


def class_bars(counts: Mapping[tuple[str, str], int]) -> bytes:
    """Cells by class, a panel a domain; each panel has a scale of its own, so the numbers are written out.

    Args:
        counts: Cells by (label, domain), "" the label of unlabelled cells.
    """
    labels, domains = _labels_and_domains(counts)
    styles = [class_style(label) for label in reversed(labels)]
    across = min(ACROSS, len(domains))
    down = -(-len(domains) // across)
    figure = Figure(figsize=(WIDTH, down * (0.9 + 0.21 * len(labels))), layout=ConstrainedLayoutEngine(h_pad=0.12))
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, domain in zip(panels, domains):
        numbers = [counts.get((label, domain), 0) for label in reversed(labels)]
        bars = axes.barh(range(len(labels)), numbers, color=[style.colour for style in styles])
        axes.bar_label(bars, [f"{n:,}" for n in numbers], padding=3, fontsize=7, color=INK)
        axes.set_title(f"{textwrap.fill(domain, 28)}\n{sum(numbers):,} cells")
        axes.set_xlim(0, 1.18 * max(numbers))
        axes.set_ylim(-0.7, len(labels) - 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        plain(axes)
        axes.set_yticks(range(len(labels)), [style.name for style in styles])
        axes.tick_params(axis="y", length=0)
    for axes in panels[len(domains) :]:
        axes.remove()
    return png_bytes(figure)


def mean_images(mean: Mapping[tuple[str, str], np.ndarray], counts: Mapping[tuple[str, str], int]) -> bytes:
    """The mean crop of every class (row) in every domain (column), the number of its cells beneath.

    Args:
        mean: (S, S, 3) float in [0, 255], RGB, by (label, domain).
        counts: Cells by the same.
    """
    labels, domains = _labels_and_domains(counts)
    rows = [textwrap.fill(class_style(label).name, 20) for label in labels]
    columns = [textwrap.fill(name, 14) for name in domains]
    head = LINE * (2 + max(name.count("\n") for name in columns))
    width, height = TILE * len(domains), 1.2 * TILE * len(labels)
    figure = Figure(figsize=(NAMES + width, head + height))
    axes = figure.add_axes((NAMES / (NAMES + width), 0, width / (NAMES + width), height / (head + height)))
    for (label, domain), image in mean.items():
        x, y = domains.index(domain), 1.2 * labels.index(label)  # a fifth of a tile for the number
        axes.imshow(np.rint(image).astype(np.uint8), extent=(x + 0.02, x + 0.98, y + 0.96, y), origin="upper")
        axes.text(x + 0.5, y + 1.07, f"{counts[label, domain]:,}", ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(0, len(domains)), ylim=(1.2 * len(labels), 0), aspect="auto")
    axes.set_xticks(np.arange(len(domains)) + 0.5, columns, fontsize=8)
    axes.set_yticks(1.2 * np.arange(len(labels)) + 0.48, rows, fontsize=8)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, colors=INK)
    axes.spines[:].set_visible(False)
    return png_bytes(figure)


def colour_histograms(crop: Mapping[str, np.ndarray], mask: Mapping[str, np.ndarray]) -> bytes:
    """Densities of red, green and blue (rows), of whole crops on the left and within masks on the right.

    Args:
        crop: (3, bins) shares that sum to 1 along each channel, by domain.
        mask: The same within masks; not a number where there are none.
    """
    colours = domain_colours(crop)
    figure = Figure(figsize=(WIDTH, 7.2), layout="constrained")
    grid = figure.subplots(3, 2, sharex=True)
    for column, (where, shares) in enumerate((("whole crop", crop), ("within the masks", mask))):
        for row, channel in enumerate(("red", "green", "blue")):
            axes = grid[row, column]
            for domain, (colour, _) in colours.items():
                percent = 100 * shares[domain][row]
                edges = np.linspace(0, 256, len(percent) + 1)
                axes.stairs(percent, edges, color=colour, linewidth=1.4, label=in_legend(domain))
            highest = max(1.0, *(100 * np.nan_to_num(share[row]).max() for share in shares.values()))
            axes.set_title(f"{channel}, {where}")
            axes.set(xlim=(0, 256), xticks=range(0, 257, 64))
            axes.set_yscale("function", functions=(np.sqrt, np.square))  # a clipped level may hold a quarter
            axes.set(ylim=(0, 1.1 * highest), yticks=[tick for tick in (0, 1, 2, 5, 10, 20, 40, 80) if tick <= highest])
            axes.grid(axis="y", color="#eceff1")
            axes.set_axisbelow(True)
            plain(axes)
        grid[2, column].set_xlabel("level")
        grid[1, 0].set_ylabel("share of the pixels, %, square-root scale", fontsize=8, color=INK)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    return png_bytes(figure)


def scatter_3d(xyz: np.ndarray, domain: np.ndarray, label: np.ndarray) -> bytes:
    """A projection to three dimensions by domain (left) and by class (right), from two viewpoints (rows).

    All three axes have one scale.

    Args:
        xyz: (n, 3).
        domain: (n,) names.
        label: (n,) classes, "" where unknown.
    """
    figure = Figure(figsize=(WIDTH, 10))
    figure.subplots_adjust(left=0, right=1, bottom=0.13, top=0.97, wspace=0, hspace=0.06)
    grid = figure.subplots(2, 2, subplot_kw={"projection": "3d"})
    low, span = xyz.min(axis=0), np.ptp(xyz, axis=0)
    span = np.maximum(span, 0.01 * span.max() or 1.0)
    for row, azimuth, side in zip(grid, AZIMUTHS, ("", ", from the side")):
        points_by_domain(row[0], xyz, domain)
        points_by_class(row[1], xyz, label)
        for axes in row:
            axes.view_init(ELEVATION, azimuth)
            axes.set_box_aspect(tuple(span))  # as long as its range, so all axes have one scale
            for k, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
                axis.set_view_interval(low[k], low[k] + span[k], ignore=True)
                axis.set_ticks([])
                axis.set_pane_color("#f3f5f6")
                axis.line.set_color(FAINT)
            axes.set_title(axes.get_title() + side, fontsize=10, color=INK)
    for axes in grid[1]:
        legend_below(axes)
    return png_bytes(figure)


def _labels_and_domains(counts: Mapping[tuple[str, str], int]) -> tuple[list[str], list[str]]:
    return in_reading_order(label for label, _ in counts), sorted({domain for _, domain in counts})
