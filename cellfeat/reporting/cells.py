"""What people look at first after a dump: a table of the cells, pictures of them, and one page that shows both."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import slug, write_text
from cellfeat.core.progress import Progress
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.dataset import ImageRecord
from cellfeat.data.images import UnreadableImage
from cellfeat.data.slides import read_picture
from cellfeat.reporting.cell_pictures import draw_overlay, draw_sheet
from cellfeat.reporting.cell_table import cell_table
from cellfeat.reporting.page import write_page
from cellfeat.store import Store
from cellfeat.store.fields import whole_images
from cellfeat.store.margin import margin_of

log = logging.getLogger(__name__)

FOLDER = "cells"  # in the store's folder
TABLE, PAGE = "cells.csv", "cells.html"
OVERLAYS = 60  # images with outlines, spread evenly over those with cells
SHEET, SHEETS = 100, 4  # cells of a sheet, sheets of a domain


def write_cells(store: Store, records: Mapping[str, ImageRecord], output: Path) -> Path:
    """Write cells.csv, overlays/, sheets/ and cells.html, which shows them.

    Args:
        store: The store.
        records: Image id to the image, for overlays and scales; images that are not there or have changed get none.
        output: The folder.

    Returns:
        The page.

    Raises:
        CellfeatError: The store does not tell the margin of its crops.
    """
    margin = margin_of(store, "dump the images again")
    scales = {name: record.um_per_px for name, record in records.items() if record.um_per_px}
    cells = cell_table(store, margin, scales)
    write_text(output / TABLE, csv_text(cells.round(4)))
    images = whole_images(store.images())
    overlays = _overlays(store, cells, images, records, margin, output / "overlays")
    by_domain = cells.groupby("domain", sort=False)
    sheets = [sheet for domain, rows in by_domain for sheet in _sheets(store, rows, str(domain), output / "sheets")]
    return write_page(
        output / PAGE,
        "cells.html.j2",
        cells=len(cells),
        domains=_domains(cells, images),
        without=_without(images),
        unreadable=images.loc[images["reason"] != "", ["image_id", "reason"]].head(20).to_dict("records"),
        counts={"unreadable": int((images["reason"] != "").sum()), "overlays": len(overlays)},
        overlays=overlays,
        sheets=sheets,
        unit="um" if "diameter_um" in cells else "px",
    )


def _overlays(
    store: Store,
    cells: pd.DataFrame,
    images: pd.DataFrame,
    records: Mapping[str, ImageRecord],
    margin: float,
    folder: Path,
) -> list[dict[str, Any]]:
    with_cells = images[(images["cells"] > 0) & images["image_id"].isin(set(records))]
    chosen = with_cells.iloc[_spread(len(with_cells), OVERLAYS)]
    rows_of, drawn = cells.groupby("image_id").indices, []
    progress = Progress(chosen.itertuples(), total=len(chosen), desc="overlays", unit="image")
    for k, image in enumerate(progress):
        record, rows = records[image.image_id], rows_of[image.image_id]
        try:
            rgb = read_picture(record.path, record.bits)
        except UnreadableImage as error:
            log.warning("no overlay of %s: %s", image.image_id, error.reason)
            continue
        path = folder / f"{k:03d}-{slug(record.path.stem)}.jpg"
        draw_overlay(rgb, cells.iloc[rows], store.read("masks", rows), margin, path)
        drawn.append({"file": f"{folder.name}/{path.name}", "image": image.image_id, "cells": len(rows)})
    return drawn


def _sheets(store: Store, cells: pd.DataFrame, domain: str, folder: Path) -> list[dict[str, Any]]:
    """Sheets of a domain's cells, spread evenly over the store, by label and falling score."""
    chosen = cells.iloc[_spread(len(cells), SHEET * SHEETS)].sort_values(
        ["label", "score"], ascending=[True, False], kind="stable"
    )
    made = []
    for number, start in enumerate(range(0, len(chosen), SHEET)):
        part = chosen.iloc[start : start + SHEET]
        captions = [f"{score:.2f} {label}" for score, label in zip(part["score"], part["label"], strict=True)]
        path = folder / f"{slug(domain)}-{number}.jpg"
        draw_sheet(store, part, captions, path)
        made.append({"file": f"{folder.name}/{path.name}", "domain": domain, "shown": len(part), "of": len(cells)})
    return made


def _domains(cells: pd.DataFrame, images: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts and medians of each domain."""
    rows = []
    for domain, seen in images.groupby("domain", sort=False):
        own = cells[cells["domain"] == domain]
        numbers = ("diameter_px", "diameter_um", "eccentricity", "nucleus_cytoplasm_ratio", "score")
        medians = {name: float(own[name].median()) if name in own and len(own) else None for name in numbers}
        rows.append(
            {
                "domain": domain,
                "images": len(seen),
                "with_cell": int((seen["cells"] > 0).sum()),
                "cells": len(own),
                **medians,
            }
        )
    return rows


def _without(images: pd.DataFrame) -> list[str]:
    """The first images in which no cell was found."""
    return images.loc[(images["cells"] == 0) & (images["reason"] == ""), "image_id"].head(20).tolist()


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
