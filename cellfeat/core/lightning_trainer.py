"""What every training run of the package shares: Lightning made quiet and resumable, and a NaN that names its cells."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import CheckpointIO

from cellfeat.core.precision import usable
from cellfeat.core.processes import is_first_process
from cellfeat.core.progress import Progress
from cellfeat.core.tensors import best_device, device_name, load_checkpoint, save_checkpoint, unusable
from cellfeat.core.tracking import callbacks as callbacks_to_call
from cellfeat.core.tracking import track
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)


def fit(
    module: lightning.LightningModule,
    checkpoints: Path,
    *,
    title: str,
    epochs: int,
    cells: int,
    precision: str = "fp32",
    callbacks: Sequence[Callback] = (),
) -> lightning.Trainer:
    """Train to the last epoch, from checkpoints/last.ckpt if there is one; under torchrun with all processes.

    Args:
        module: It makes its own data loaders; a batch has `rows`, the store rows of its cells.
        checkpoints: Folder of last.ckpt, written after each epoch, whole or not at all.
        title: Of the progress bar.
        epochs: At most.
        cells: In an epoch, for the progress bar.
        precision: "bf16" computes in bfloat16 where autocast does; weights stay float32.
        callbacks: More of Lightning's, such as early stopping.

    Raises:
        Damaged: checkpoints/last.ckpt cannot be read, or is of another training.
        CannotWrite: A checkpoint cannot be written.
    """
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun sets these
    world = int(os.environ.get("WORLD_SIZE", 1))
    last = checkpoints / "last.ckpt"
    if is_first_process():
        log.info("%s: trains up to %d epochs of %d cells on %s", title, epochs, cells, device_name())
    bar = _Progress(title, epochs, cells)
    with _quiet_lightning():
        trainer = lightning.Trainer(
            devices=local_world,
            num_nodes=world // local_world,
            strategy="ddp" if world > 1 else "auto",
            precision="bf16-mixed" if usable(precision, best_device()) == "bf16" else "32-true",
            max_epochs=epochs,
            callbacks=[
                *callbacks,
                ModelCheckpoint(checkpoints, last.stem, save_on_train_epoch_end=True, enable_version_counter=False),
                bar,
                *([_Tracked(checkpoints.parent)] if callbacks_to_call() else []),
            ],
            plugins=[WholeCheckpoints()],
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
        except Exception as error:
            if bar.started or not last.exists() or isinstance(error, CellfeatError | OSError):
                raise
            raise unusable(last, error) from error
    return trainer


class WholeCheckpoints(CheckpointIO):
    """Checkpoints that are whole or absent and are read without running code.

    Lightning's own writer puts them into TMPDIR and copies them over the old file, so that a kill loses both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See `cellfeat.core.tensors.save_checkpoint`."""
        save_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See `cellfeat.core.tensors.load_checkpoint`."""
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)


class _From(Callback):
    """A callback that ignores every epoch before `earliest` (from 0)."""

    earliest = 0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch >= self.earliest:
            super().on_train_epoch_end(trainer, pl_module)


class Stopping(_From, EarlyStopping):
    """Stop when the logged "score" has not risen for `patience` epochs, counted from the epoch `earliest`."""

    def __init__(self, patience: int, earliest: int = 0) -> None:
        super().__init__("score", mode="max", patience=patience, check_on_train_epoch_end=True)
        self.earliest = earliest


class BestEpoch(_From, ModelCheckpoint):
    """Keep best.ckpt, the weights of the epoch with the highest logged "score", from the epoch `earliest` on."""

    def __init__(self, checkpoints: Path, earliest: int = 0) -> None:
        super().__init__(
            checkpoints,
            "best",
            monitor="score",
            mode="max",
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.earliest = earliest


def check_loss(loss: torch.Tensor, module: lightning.LightningModule, cell_id: np.ndarray, rows: torch.Tensor) -> None:
    """Refuse to continue from a loss that is not a finite number.

    Args:
        loss: Scalar.
        module: The module that is trained; it gives epoch and step.
        cell_id: (n,) cell ids of the whole store.
        rows: (m,) int64, store rows of the batch's cells.

    Raises:
        CellfeatError: The loss is NaN or infinite; the message has the epoch, the step and the batch's cell ids.
    """
    where = f"epoch {module.current_epoch}, step {module.global_step}: the loss"
    check_finite(float(loss.detach()), where, "lower the learning rate (lr)", cell_id[np.asarray(rows.cpu())])


def check_finite(value: float, where: str, remedy: str, cell_id: Sequence[str] | np.ndarray) -> None:
    """Refuse to continue from what is minimised if it is not a finite number.

    Args:
        value: What is minimised, over one batch.
        where: Step and name of the value, for the message.
        remedy: What may help beside looking at the cells.
        cell_id: Ids of the batch's cells.

    Raises:
        CellfeatError: The value is NaN or infinite; the message has `where` and the cell ids.
    """
    if not math.isfinite(value):
        raise CellfeatError(f"{where} is {value}", f"look at these cells or {remedy}: {', '.join(cell_id)}")


class _Progress(Callback):
    """One bar over all epochs: cells, cells/s, time left, loss.

    Attributes:
        started: Whether training has begun; what Lightning does before is to take over the checkpoint.
    """

    started = False

    def __init__(self, title: str, epochs: int, cells: int) -> None:
        self._title = title
        self._epochs = epochs
        self._cells = cells

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.started = True
        self._bar = Progress(
            total=self._epochs * self._cells,
            initial=trainer.current_epoch * self._cells,
            desc=self._title,
            unit="cell",
            disable=not trainer.is_global_zero,
            announce=True,
        )

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, _: int) -> None:
        self._bar.set_postfix(epoch=trainer.current_epoch, loss=f"{float(outputs['loss']):.4f}", refresh=False)
        self._bar.update(len(batch.rows) * trainer.world_size)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


class _Tracked(Callback):
    """Hands on the mean loss of each epoch, and the module's own `history` of it where it keeps one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._epoch = folder, 0
        self._losses: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, _: int) -> None:
        self._epoch = trainer.current_epoch
        self._losses.append(float(outputs["loss"]))

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._hand_on(trainer, pl_module)  # the epoch before: at its end its history is not written yet

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._hand_on(trainer, pl_module)

    def _hand_on(self, trainer: lightning.Trainer, module: Any) -> None:
        if self._losses and trainer.is_global_zero:
            last = (getattr(module, "history", None) or [{}])[-1]
            further = {name: value for name, value in last.items() if name != "epoch"}
            track(self._folder, self._epoch, {"loss": sum(self._losses) / len(self._losses)} | further)
        self._losses.clear()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips and notices off the terminal."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        lightning_logger.setLevel(level)
