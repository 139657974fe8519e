"""A first look at a store: which classes there are, what cells and stains look like, and how embeddings lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellfeat.core.files import atomic_path, slug
from cellfeat.core.progress import Progress
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.projection import project
from cellfeat.evaluation.run import read_all
from cellfeat.evaluation.table import align
from cellfeat.reporting import explore_plots, plots
from cellfeat.reporting.page import write_page
from cellfeat.reporting.palette import method_name
from cellfeat.reporting.pixels import read_pixels
from cellfeat.reporting.plots import png_uri

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)


def explore(store: Store, embeddings: Sequence[str | Path], output: str | Path) -> Path:
    """Draw the classes, mean crops and colours of each domain, and each embedding in two and three dimensions.

    `output` gets classes.png, mean_images.png, colours.png, for each method map_2d_<method>.png and
    map_3d_<method>.png (the page says why where there is none), and explore.html, which holds them all.

    Args:
        store: The cells.
        embeddings: Embedding files of this store, each of another method; may be none.
        output: Folder of the figures and the page.

    Returns:
        explore.html.

    Raises:
        CellfeatError: The store holds no cell, or the embeddings are not of its cells.
    """
    if not len(store):
        raise CellfeatError(f"{store.path}: holds no cell, so there is nothing to draw; dump images into it first")
    table, output = store.table(), Path(output)
    read = read_all(store, embeddings) if embeddings else []
    vectors = {str(one.attributes["method"]): align(one, table) for one in read}  # what may be refused comes first
    pixels = read_pixels(store)
    counts = {(label, domain): int(n) for (label, domain), n in table.groupby(["label", "domain"]).size().items()}
    figures = {
        "classes": explore_plots.class_bars(counts),
        "mean_images": explore_plots.mean_images(pixels.mean, counts),
        "colours": explore_plots.colour_histograms(pixels.crop, pixels.mask),
    }
    maps, shown = _maps(vectors, table)
    for name, picture in (figures | maps).items():
        with atomic_path(output / f"{name}.png") as partial:
            partial.write_bytes(picture)
    page = write_page(
        output / "explore.html",
        "explore.html.j2",
        store={"digest": store.digest, "cells": len(store)},
        domains=sorted(pixels.crop),
        figures={name: png_uri(picture) for name, picture in figures.items()},
        maps=shown,
    )
    log.info("%s: %d cells of %d domains in %d figures", output, len(store), len(pixels.crop), len(figures | maps))
    return page


def _maps(vectors: Mapping[str, np.ndarray], table: pd.DataFrame) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The maps by the names of their files, and what the page says of each method."""
    domain, label = table["domain"].to_numpy(str), table["label"].to_numpy(str)
    pictures: dict[str, bytes] = {}
    shown = []
    with Progress(total=2 * len(vectors), desc="maps", unit="map", disable=not vectors) as progress:
        for method, z in vectors.items():
            said: dict[str, Any] = {"method": method_name(method), "d": z.shape[1], "of": len(z)}
            for dimensions, place, draw in ((2, "flat", plots.scatter), (3, "solid", explore_plots.scatter_3d)):
                drawn = project(z, domain, dimensions=dimensions)
                said |= {"kind": drawn.kind, "reason": drawn.reason, "shown": len(drawn.rows)}
                if not drawn.reason:
                    picture = draw(drawn.points, domain[drawn.rows], label[drawn.rows])
                    pictures[f"map_{dimensions}d_{slug(method)}"] = picture
                    said[place] = png_uri(picture)
                progress.update()
            shown.append(said)
    return pictures, shown
