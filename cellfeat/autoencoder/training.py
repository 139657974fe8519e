"""Training AE-CFE on a feature store: `train_autoencoder`."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch

import cellfeat
from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.data import CellDataset, check_shapes, order_domains
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.autoencoder.weights import save_autoencoder
from cellfeat.core.files import read_json, write_json, write_text
from cellfeat.core.lightning_trainer import fit
from cellfeat.data.split import stratified_split
from cellfeat.errors import CellfeatError

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
    (one row an epoch), config.json and checkpoints/last.ckpt, written after each epoch. A run that was interrupted goes
    on from there when called again and ends as if it had not been; one that is complete is left alone. Under torchrun
    the processes share every batch.

    Args:
        store: Cells with (256, 14, 14) features and 128 px crops.
        output_dir: Folder of the run.
        config: Settings of the run.
        rows: Rows of the store to train on, in place of a stratified split by `config.test_fraction`.
        module_class: What is minimised; see `AutoencoderModule.alignment_loss`.

    Returns:
        Path of autoencoder.safetensors.

    Raises:
        CellfeatError: The store's features are not (256, 14, 14) or its crops not 128 px, the anchor is not a domain of
            the store, or `output_dir` holds a run with another config, store or split.
    """
    check_shapes(store)
    output_dir = Path(output_dir)
    table = store.table()
    if rows is None:
        part = stratified_split(table, config.test_fraction, config.seed).loc[table["cell_id"]].to_numpy()
    else:
        part = np.where(np.isin(np.arange(len(table)), rows), "train", "test")
    train_rows = np.flatnonzero(part == "train")
    domains = order_domains(table["domain"].iloc[train_rows], config.anchor)
    run = _claim(output_dir, store, config, domains, pd.DataFrame({"cell_id": table["cell_id"], "part": part}))
    weights = output_dir / "autoencoder.safetensors"
    if weights.exists() and weights.with_suffix(".json").exists():
        log.info("%s stands, trained with the same config on the same store", weights)
        return weights
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
        log.info(
            f"{weights}: {config.epochs} epochs on {len(train_rows)} cells of {len(domains)} domains "
            f"(anchor {domains[0]}), loss {last['loss']:.4f}, {last['cells_per_second']:.1f} cells/s"
        )
    return weights


def _claim(
    output_dir: Path, store: Store, config: AutoencoderConfig, domains: list[str], split: pd.DataFrame
) -> dict[str, Any]:
    """Write what defines the run to `output_dir`; refuse if another run stands there."""
    config_json = output_dir / "config.json"
    split_text = split.to_csv(index=False, lineterminator="\n")
    run = {
        "config": config.model_dump(),
        "store_digest": store.digest,
        "domains": domains,
        "anchor": domains[0],
        "split_sha256": hashlib.sha256(split_text.encode()).hexdigest(),
    }
    if config_json.exists():
        for key, here, there in _differences(run, read_json(config_json)):
            raise CellfeatError(
                f"{config_json}: holds a run with another {key} ({there!r}, now {here!r}); "
                "choose another output directory"
            )
    write_text(output_dir / "split.csv", split_text)
    write_json(config_json, run)
    return run


def _differences(here: dict[str, Any], there: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in here | there:
        mine, other = here.get(key), there.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from _differences(mine, other)
        elif mine != other:
            yield key, mine, other


def _write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    write_text(path, pd.DataFrame(history).to_csv(index=False, lineterminator="\n"))


def _versions() -> dict[str, Any]:
    return {
        "versions": {
            "cellfeat": cellfeat.__version__,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        }
    }
