"""Training AE-CFE on a feature store: `train_autoencoder`."""

from __future__ import annotations

import hashlib
import logging
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.data import CellDataset, check_shapes, order_domains
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.autoencoder.weights import are_whole, save_autoencoder
from cellfeat.core.files import write_text
from cellfeat.core.lightning_trainer import fit
from cellfeat.core.processes import is_first_process
from cellfeat.core.run_record import RunRecord
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.version import __version__
from cellfeat.data.cards import ModelCard, datasets_of, write_model_card
from cellfeat.data.split import stratified_split

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)


def train_autoencoder(
    store: Store,
    output_dir: str | Path,
    config: AutoencoderConfig,
    rows: np.ndarray | None = None,
    module_class: type[AutoencoderModule] = AutoencoderModule,
) -> Path:
    """Train AE-CFE on the training part of every domain of a store, without labels.

    `output_dir` then holds autoencoder.safetensors, autoencoder.json (its card), split.csv (cell_id, part), metrics.csv
    (one row an epoch), record.json and checkpoints/last.ckpt, written after each epoch. A run that was interrupted
    continues from there when called again and ends as if it had not been; one that is complete is left alone. Under
    torchrun the processes share every batch.

    Args:
        store: Cells with (256, 14, 14) features and 128 px crops.
        output_dir: Folder of the run.
        config: Settings of the run.
        rows: Rows of the store to train on, in place of a stratified split by `config.test_fraction`.
        module_class: What is minimised; see `AutoencoderModule.Alignment`.

    Returns:
        Path of autoencoder.safetensors.

    Raises:
        CellfeatError: The store's features are not (256, 14, 14) or its crops not 128 px, the anchor is not a domain of
            the store, or a loss is not a finite number; then the cells are named.
        MissingRequirement: No anchor is named, see `order_domains`.
        DifferentInputs: `output_dir` holds a run with another config, store or split.
    """
    check_shapes(store)
    output_dir = Path(output_dir)
    table = store.table()
    if rows is None:
        part = stratified_split(table, config.test_fraction, config.seed).loc[table["cell_id"]].to_numpy()
    else:
        part = np.where(np.isin(np.arange(len(table)), rows), "train", "test")
    train_rows = np.flatnonzero(part == "train")
    anchored = config.beta > 0 and module_class.Alignment.anchored
    domains = order_domains(table["domain"].iloc[train_rows], config.anchor, anchored)
    split = csv_text(pd.DataFrame({"cell_id": table["cell_id"], "part": part}))
    run = {
        "config": config.model_dump(),
        "alignment": module_class.Alignment.formula(config),
        "store_digest": store.digest,
        "domains": domains,
        "anchor": domains[0],
        "split_sha256": hashlib.sha256(split.encode()).hexdigest(),
    }
    record = RunRecord(output_dir, run, resumable=("checkpoints/*.ckpt",))
    weights = output_dir / "autoencoder.safetensors"
    if record.check() and are_whole(weights):
        log.info("%s: trained before, with the same config on the same store", weights)
        return weights
    if is_first_process():
        record.begin()
        write_text(output_dir / "split.csv", split)
    if len(domains) == 1:
        log.warning("the store has one domain (%s): training without alignment", domains[0])

    number = {name: k for k, name in enumerate(domains)}
    dataset = CellDataset(store, table["domain"].map(number).fillna(-1).to_numpy(np.int64), masked=config.masked_images)
    module = module_class(
        dataset, train_rows, domains, config, lambda history: _write_metrics(output_dir / "metrics.csv", history)
    )
    trainer = fit(
        module,
        output_dir / "checkpoints",
        title="train-ae",
        epochs=config.epochs,
        cells=len(train_rows),
        precision=config.precision,
    )
    if trainer.is_global_zero:
        last = module.history[-1]
        save_autoencoder(weights, module.network, run | {"cells": len(train_rows), "metrics": last} | _versions())
        _write_card(output_dir, store, run, len(train_rows), last)
        record.done()
        log.info(
            f"{weights}: {config.epochs} epochs on {len(train_rows)} cells of {len(domains)} domains "
            f"(anchor {domains[0]}), loss {last['loss']:.4f}, {last['cells_per_second']:.1f} cells/s"
        )
    return weights


def _write_card(folder: Path, store: Store, run: dict[str, Any], cells: int, last: dict[str, float | int]) -> None:
    """MODEL_CARD.md: data, settings, the last epoch's losses."""
    aligned = ", ".join(run["domains"])
    facts = {"cells": cells, "domains": aligned, "anchor": run["anchor"], "alignment": run["alignment"]}
    card = ModelCard(
        "AE-CFE of white blood cells",
        "`cellfeat embed STORE --weights autoencoder.safetensors` turns a cell's detector features into 50 numbers.",
        "image-feature-extraction",
        datasets_of(store.provenance),
        run["config"],
        facts | {"store": store.digest},
        [("training cells", name, float(value)) for name, value in last.items() if name.endswith("loss")],
        ["It reads features of the detector that made this store, and no other's.", f"Sites aligned: {aligned}."],
    )
    write_model_card(folder, card)


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    write_text(path, csv_text(pd.DataFrame(history)))


def _versions() -> dict[str, Any]:
    return {
        "versions": {
            "cellfeat": __version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        }
    }
