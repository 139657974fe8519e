"""Cells as scPortrait's single-cell image datasets (.h5sc): AnnData with the pictures of all cells in one array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import atomic_path
from cellfeat.core.progress import Progress
from cellfeat.store.export.tables import CellTable, cell_table, extra, write_anndata
from cellfeat.store.new_hdf5 import NewHDF5
from cellfeat.store.reader import Store

IMAGES = "single_cell_images"
MASKS, COLOURS = ("cell",), ("red", "green", "blue")
KINDS = ["mask", "image_channel"]
BLOCK = 256  # cells at a time


def write_h5sc(store: Store, output: Path, embeddings: Sequence[str | Path] = ()) -> None:
    """Write crops and masks as scPortrait lays them out.

    obsm["single_cell_images"] is (n, 4, S, S) float16, a chunk a picture: the mask (0 and 1), then red, green and blue
    in [0, 1]. Their names and kinds are in var, in uns["single_cell_images"] and in the attributes of the array.
    obs["cell_id"] is the number of the row from 1 on, for scPortrait counts cells; obs["name"] is the cell's id. The
    other columns, obsm["spatial"] and embeddings are those of `write_table`.

    Args:
        store: The store.
        output: The file.
        embeddings: Embedding files of this store.

    Raises:
        CellfeatError: anndata is missing, or embeddings are of another store.
    """
    anndata = extra("anndata", "h5sc")
    cells = cell_table(store, embeddings)
    with atomic_path(output) as partial:
        frame = _frame(anndata, cells, store.layout.crop_size)
        write_anndata(partial, frame, lambda file: _write_images(file, store))


def _frame(anndata: Any, cells: CellTable, side: int) -> Any:
    names, kinds = [*MASKS, *COLOURS], [KINDS[0]] * len(MASKS) + [KINDS[1]] * len(COLOURS)
    n = len(cells.table)
    obs = cells.table.rename_axis("name").reset_index()
    obs.insert(0, "cell_id", np.arange(1, n + 1, dtype=np.uint64))
    obs.index = obs.index.astype(str)
    var = pd.DataFrame({"channels": names, "channel_mapping": kinds}, index=[str(k) for k in range(len(names))])
    data = anndata.AnnData(obs=obs, var=var)
    data.uns[IMAGES] = _facts(n, side) | {
        "channel_names": np.array(names, object),
        "channel_mapping": np.array(kinds, object),
    }
    data.uns["cellfeat"] = cells.provenance
    data.obsm["spatial"] = cells.centres
    for method, z in cells.embeddings.items():
        data.obsm[f"X_{method}"] = z
    return data


def _facts(cells: int, side: int) -> dict[str, Any]:
    return {
        "n_cells": cells,
        "n_channels": len(MASKS) + len(COLOURS),
        "n_masks": len(MASKS),
        "n_image_channels": len(COLOURS),
        "image_size_x": side,
        "image_size_y": side,
        "compression": "gzip",
    }


def _write_images(file: NewHDF5, store: Store) -> None:
    side, n = store.layout.crop_size, len(store)
    shape = (n, len(MASKS) + len(COLOURS), side, side)
    images = file.create_dataset(f"obsm/{IMAGES}", shape, np.float16, chunks=(1, 1, side, side), compression="gzip")
    images.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"} | _facts(n, side))
    images.attrs["channel_names"] = np.array([*MASKS, *COLOURS], "S")
    images.attrs["channel_mapping"] = np.array([KINDS[0]] * len(MASKS) + [KINDS[1]] * len(COLOURS), "S")
    with Progress(total=n, desc="export", unit="cell") as progress:
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            crops = store.read("crops", rows).transpose(0, 3, 1, 2) / 255
            images[rows] = np.concatenate([store.read("masks", rows)[:, None] > 0, crops], axis=1)
            file.check()
            progress.update(len(crops))
