"""Pictures of where a fitted classifier looks: each cell beside its heat map, and all of them on one sheet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from cellfeat.core.files import atomic_path, slug, write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.data.cell_ids import parts_of, rows_of
from cellfeat.data.split import read_split
from cellfeat.errors import CellfeatError
from cellfeat.methods import folder as folders
from cellfeat.reporting.heat_maps import look, overlay
from cellfeat.reporting.palette import class_style, in_reading_order

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)

TILE, GAP, CAPTION = 112, 8, 18  # px, on the sheet
INK, FAINT, WRONG, PAPER = (20, 20, 20), (105, 105, 105), (190, 30, 30), (255, 255, 255)


def explain(
    store: Store,
    folder: str | Path,
    output: str | Path,
    cell_ids: Sequence[str] = (),
    per_class: int = 2,
    split: str | Path | None = None,
) -> Path:
    """Show what spoke for the class that a fitted network names.

    `output` gets a PNG a cell (<row>_<label>_as_<named class>.png: the crop, and the crop under its map), cells.csv
    (picture, cell_id, domain, label, named, probability) and sheet.png, all of them by class and domain.

    Args:
        store: The one that the method was fitted on.
        folder: What `mdd`, `resnext` or `finetune:<model>` learned; it knows which of them and how it was set.
        output: Folder of the pictures.
        cell_ids: The cells; none: some of every class in every domain that the network knows.
        per_class: Most of those cells, of one class in one domain.
        split: A split.csv; only cells of its test part are chosen.

    Returns:
        The sheet.

    Raises:
        CellfeatError: `folder` holds no such method or one of another store, a cell is not in the store or of a domain
            that the network does not know, there is no cell to choose, or pytorch-grad-cam is missing.
    """
    method = folders.reopen(Path(folder), store)
    if not hasattr(method, "load"):
        raise CellfeatError(f"{folder}: {method.name} cannot be explained; mdd, resnext and finetune:<model> can")
    network, classes, dataset = method.load(store, Path(folder))
    table = store.table()
    known = table["domain"].isin(dataset.normalisation.number).to_numpy()
    if cell_ids:
        rows = rows_of(
            pd.Index(cell_ids).unique(), table["cell_id"], store.path, "`cellfeat export` lists its cell_ids"
        )
        if not known[rows].all():
            cell = table.iloc[rows[~known[rows]][0]]
            raise CellfeatError(
                f"{cell['cell_id']}: {folder} was not fitted for its domain, {cell['domain']}; choose other cells"
            )
    else:
        if split is not None:
            known = known & (parts_of(read_split(Path(split)), table["cell_id"]) == "test")
        rows = _some(table[known], per_class)
        if len(rows) == 0:
            raise CellfeatError(f"{split or store.path}: no cell of a domain that {folder} was fitted for")
    cells = table.iloc[rows][["cell_id", "domain", "label"]].reset_index(drop=True)
    probabilities, maps = look(network, dataset, rows)
    cells["probability"], cells["named"] = probabilities.max(axis=1), np.array(classes)[probabilities.argmax(axis=1)]
    pairs = zip(store.read("crops", rows), maps, strict=True)
    pictures = [Image.fromarray(np.concatenate([crop, overlay(crop, heat)], axis=1)) for crop, heat in pairs]
    cells["picture"] = [
        slug(f"{row:06d}_{cell.label or 'unlabelled'}_as_{cell.named}") + ".png"
        for row, cell in zip(rows, cells.itertuples())
    ]
    output = Path(output)
    for name, picture in zip(cells["picture"], pictures):
        _save(picture, output / name)
    columns = ["picture", "cell_id", "domain", "label", "named", "probability"]
    write_text(
        output / "cells.csv",
        csv_text(cells[columns], float_format="%.4f"),
    )
    _save(sheet(cells, pictures), output / "sheet.png")
    right = (cells["label"] == cells["named"]).sum()
    log.info("%s: %d cells as %s sees them, %d named as labelled", output, len(cells), method.name, right)
    return output / "sheet.png"


def sheet(cells: pd.DataFrame, pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures on one: a row a class, a column a domain, beneath each the named class and its probability.

    Args:
        cells: One row a picture: domain, label, named, probability.
        pictures: Of one size, twice as wide as high.
    """
    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    labels, domains = in_reading_order(cells["label"]), sorted(set(cells["domain"]))
    groups = cells.groupby(["label", "domain"]).indices
    most = {domain: max(len(groups.get((label, domain), ())) for label in labels) for domain in domains}
    lefts, x = {}, 4 * GAP + int(max(large.getlength(class_style(label).name) for label in labels))
    for domain in domains:
        lefts[domain] = x
        x += max(most[domain] * (2 * TILE + GAP), int(large.getlength(domain))) + 3 * GAP
    drawn = Image.new("RGB", (x, 40 + len(labels) * (TILE + CAPTION + GAP)), PAPER)
    pen = ImageDraw.Draw(drawn)
    for domain, left in lefts.items():
        pen.text((left, 10), domain, INK, large)
    for line, label in enumerate(labels):
        top = 40 + line * (TILE + CAPTION + GAP)
        pen.text((GAP, top + TILE // 2 - 9), class_style(label).name, INK, large)
        for domain, left in lefts.items():
            for turn, k in enumerate(groups.get((label, domain), ())):
                x = left + turn * (2 * TILE + GAP)
                cell = cells.iloc[k]
                drawn.paste(pictures[k].resize((2 * TILE, TILE), Image.Resampling.LANCZOS), (x, top))
                ink = FAINT if label in ("", cell["named"]) else WRONG
                text = f"{class_style(cell['named']).name} {cell['probability']:.2f}"
                pen.text((x, top + TILE + 2), text, ink, small)
    return drawn


def _some(table: pd.DataFrame, per_class: int) -> np.ndarray:
    """Rows of at most `per_class` cells of every class and domain, spread evenly over the store."""
    if per_class < 1:
        raise CellfeatError(f"per_class: {per_class} cells of a class; give at least 1")
    index = table.index.to_numpy()
    groups = [index[at] for at in table.groupby(["label", "domain"]).indices.values()]
    spread = [rows[np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)] for rows in groups]
    return np.concatenate([index[:0], *spread])


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as partial:
        picture.save(partial, format="PNG")
