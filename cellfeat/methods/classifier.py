"""Training and use of a network that names the class of a crop: one loop for every method that does."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from cellfeat.core.files import as_written, read_json, write_json, write_text
from cellfeat.core.lightning_trainer import BestEpoch, Stopping, check_loss, fit
from cellfeat.core.run_record import RunRecord
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.tensors import best_device, load_checkpoint, readable, save_tensors
from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CannotWrite, CellfeatError, Damaged, MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.crops import CropBatch, CropDataset, CropSampler, Normalisation, loader
from cellfeat.store import read_embeddings, write_embeddings

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

PREDICT_BATCH = 64
WEIGHTS, MODEL, METRICS = "weights.safetensors", "model.json", "metrics.csv"
FEATURES = "features.h5"  # of the cells of the store, once they were asked for
SLOW = 2000  # cells above which the user is told to wait


def numbered_labels(store: Store, rows: np.ndarray, method: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of the cells `rows`, sorted, and (len(store),) int64 their numbers; -1 for every other cell.

    Raises:
        MissingRequirement: A cell of `rows` has no label, or all have the same.
    """
    label = store.table()["label"].to_numpy()
    known = label[rows]
    if (known == "").any():
        reason = f"{(known == '').sum()} of the {len(rows)} cells have none"
        raise MissingRequirement(f"{method}: lacks labels: {reason}", lacking="labels")
    classes = tuple(sorted(set(known)))
    if len(classes) < 2:
        reason = f"{len(classes)} classes to learn from, two are needed"
        raise MissingRequirement(f"{method}: lacks labels: {reason}", lacking="labels")
    numbers = np.full(len(store), -1, np.int64)
    numbers[rows] = np.searchsorted(classes, known.astype(str))
    return classes, numbers


def class_weights(label: np.ndarray, classes: int, share: float) -> Tensor:
    """total / (share · count) of each class, for the labels (n,) int that are learned from."""
    counts = np.bincount(label, minlength=classes)
    return torch.from_numpy(len(label) / (share * np.maximum(counts, 1))).float()


def weighted_cross_entropy(logits: Tensor, label: Tensor, weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over the cells of weight[label] · cross-entropy; logits (n, k), label (n,) int64, weight (k,)."""
    each = functional.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
    return (each * weight.to(each)[label]).mean()


class ClassifierModule(lightning.LightningModule):
    """One training step and one epoch; a method says what is minimised and by what the best epoch is chosen.

    `history` holds one dict an epoch: epoch (from 0), lr, and the means of what `loss` and `score` give. It travels in
    the checkpoint.

    Args:
        network: (n, 3, S, S) to logits (n, k).
        dataset: Of the cells, augmented.
        sampler: Of the batches.
        loss: (network, batch, step) to scalars by name: "loss", which is minimised, and others worth a column; step
            counts from 0.
        score: Judges the network in evaluation mode after each epoch: numbers by name, "score", the higher, the better,
            and others worth a column.
        optimizer: Makes the optimiser of the parameters that are trained.
        schedule: Makes the schedule of the learning rate, stepped after each epoch.
        seed: Of dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: CropDataset,
        sampler: CropSampler,
        *,
        loss: Callable[[nn.Module, CropBatch, int], dict[str, Tensor]],
        score: Callable[[nn.Module], dict[str, float]],
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.history: list[dict[str, float]] = []
        self._dataset, self._sampler, self._seed = dataset, sampler, seed
        self._loss, self._score, self._optimizer, self._schedule = loss, score, optimizer, schedule
        self._schedule_state: dict[str, Any] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser; the schedule is stepped here and not by Lightning, which does not do so after a resume."""
        optimizer = self._optimizer([parameter for parameter in self.network.parameters() if parameter.requires_grad])
        self._scheduler = self._schedule(optimizer)
        return optimizer

    def train_dataloader(self) -> DataLoader:
        """Batches, read ahead where a GPU would wait for them."""
        return loader(self._dataset, self._sampler, 8 if self.device.type == "cuda" else 0)

    def on_train_start(self) -> None:
        if self._schedule_state is not None:
            self._scheduler.load_state_dict(self._schedule_state)

    def training_step(self, batch: CropBatch, _: int) -> Tensor:
        """Loss of one batch, refused if it is no number."""
        torch.manual_seed(self._seed % 2**31 * 2**32 + self.global_step)  # dropout is the same after a resume
        losses = self._loss(self.network, batch, self.global_step)
        check_loss(losses["loss"], self, self._dataset.cell_id, batch.rows)
        self.log_dict(losses, on_step=False, on_epoch=True, batch_size=len(batch.rows))
        return losses["loss"]

    def on_train_epoch_end(self) -> None:
        """Judge the epoch and step the schedule."""
        self.network.eval()
        with torch.inference_mode():
            scores = self._score(self.network)
        self.network.train()
        losses = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name not in scores}
        self.log("score", scores["score"])
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.history.append({"epoch": self.current_epoch, **losses, **scores, "lr": rate})
        if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(scores["score"])
        else:
            self._scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint["schedule"] = self._scheduler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self._schedule_state = checkpoint["schedule"]


def train(
    module: ClassifierModule,
    folder: Path,
    title: str,
    epochs: int,
    cells: int,
    patience: int,
    precision: str = "fp32",
    earliest: int = 0,
) -> None:
    """Train until the score has not risen for `patience` epochs; the network is left with the best epoch's weights.

    Resumes from the checkpoints in `folder`, which gets metrics.csv. The epochs before `earliest` (from 0) cannot be
    the best and do not count as epochs without a rise.
    """
    checkpoints = folder / "checkpoints"
    best = checkpoints / "best.ckpt"
    if not ((folder / METRICS).is_file() and best.is_file()):  # else this training is complete
        with torch.random.fork_rng():
            fit(
                module,
                checkpoints,
                title=title,
                epochs=epochs,
                cells=cells,
                precision=precision,
                callbacks=[Stopping(patience, earliest), BestEpoch(checkpoints, earliest)],
            )
        write_text(folder / METRICS, csv_text(pd.DataFrame(module.history)))
    if not best.is_file():
        raise Damaged(f"{best}: was removed after the training", f"remove {checkpoints} and run again")
    with readable(best):
        module.load_state_dict(load_checkpoint(best)["state_dict"])


def save_classifier(
    folder: Path, network: nn.Module, classes: tuple[str, ...], normalisation: Normalisation, record: RunRecord
) -> None:
    """Write the network's parameters, the normalisation and model.json, and note that the run is done.

    Last the checkpoints go: a run that lacks them and is not done would begin again.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {"normalisation.mean": normalisation.mean, "normalisation.sd": normalisation.sd}
    save_tensors(folder / WEIGHTS, tensors)
    write_json(folder / MODEL, {"classes": classes, "domains": list(normalisation.number)})
    record.done()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def load_classifier(folder: Path, network: Callable[[int], Network]) -> tuple[Network, tuple[str, ...], Normalisation]:
    """What `save_classifier` wrote; `network` makes one for a number of classes. It comes in evaluation mode.

    Raises:
        CellfeatError: It is missing or damaged.
    """
    if not (folder / MODEL).is_file():
        raise CellfeatError(f"{folder / MODEL}: no such file; fit the method first, to its end")
    tensors = folders.load_tensors(folder / WEIGHTS)
    with as_written(folder / MODEL, "fit again"):
        card = read_json(folder / MODEL)
        classes = tuple(map(str, card["classes"]))
        number = {str(name): k for k, name in enumerate(card["domains"])}
    built = network(len(classes))
    with as_written(folder / WEIGHTS, "fit again"):
        try:
            built.load_state_dict({name[8:]: tensor for name, tensor in tensors.items() if name.startswith("network.")})
        except RuntimeError as error:  # PyTorch's, of names and shapes
            raise ValueError(str(error)[:200]) from None
        normalisation = Normalisation(number, tensors["normalisation.mean"], tensors["normalisation.sd"])
    return built.eval().to(best_device()), classes, normalisation


def outputs(
    network: nn.Module, dataset: CropDataset, rows: np.ndarray, part: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """What the network, in evaluation mode, gives for the cells `rows` in their order: (len(rows), k) on the CPU.

    Args:
        part: A part of the network, images (n, 3, S, S) to (n, k), in place of all of it.
    """
    run = part or network
    device = next(network.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), PREDICT_BATCH):
            parts.append(run(dataset[np.asarray(rows[start : start + PREDICT_BATCH]), 0].images.to(device)).cpu())
    return torch.cat(parts)


def kept_features(method: Any, store: Store, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer of a fitted network sees of the cells of its store: computed once, kept in its folder.

    Args:
        method: One that has `load`, fitted in `folder` on `store`.

    Returns:
        Rows (n,) int64 of the cells whose domain the network knows, and their features (n, d) float32.
    """
    table, path = store.table(), folder / FEATURES
    if path.is_file():
        found = read_embeddings(path)
        if found.attributes["store_digest"] == store.digest:
            return rows_of(found.cell_id, table["cell_id"], store.path, f"remove {path}"), found.z
    network, _, dataset = method.load(store, folder)
    rows = np.flatnonzero(table["domain"].isin(dataset.normalisation.number).to_numpy())
    if len(rows) > SLOW:
        log.info("%s: computing the features of %d cells; they are kept in %s", method.name, len(rows), path)
    z = outputs(network, dataset, rows, network.features).numpy()
    attributes = {"method": method.name, "config": method.config.model_dump_json(), "store_digest": store.digest}
    try:
        write_embeddings(path, table["cell_id"].to_numpy(str)[rows], z, attributes)
    except CannotWrite as error:  # a folder that is read-only is used all the same
        log.warning("%s: not kept (%s)", path, error)
    return rows, z
