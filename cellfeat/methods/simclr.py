"""Self-supervision on crops: two views of a cell shall be more alike than views of two cells (SimCLR)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

import lightning
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler

from cellfeat.core.files import atomic_path, write_text
from cellfeat.core.lightning_trainer import check_loss, fit
from cellfeat.core.tensors import save_tensors
from cellfeat.errors import MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.cell_encoder import CellEncoder, embed_crops, to_images
from cellfeat.methods.views import random_views

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

PROJECTION = 128  # numbers that the loss compares (Chen et al., appendix B.5)
AVERAGED_STEPS = 200  # that the average of the weights looks back on
WARM_UP = 100  # steps
READ_BATCH = 256
CROPS, METRICS, WEIGHTS = "crops.npy", "metrics.csv", "weights.safetensors"


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, eq. 1).

    Args:
        a, b: (n, d), the projections of two views of n cells.
    """
    z = functional.normalize(torch.cat([a, b]).float())
    likeness = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return functional.cross_entropy(likeness, partner)


class SimCLRConfig(BaseModel):
    """Settings of `SimCLR`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(20, ge=1, description="Passes over the training cells.")
    batch_size: int = Field(128, ge=2, description="Cells a step, all of one domain.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of AdamW.")
    temperature: float = Field(0.2, gt=0, description="Of the loss: lower looks more at the likest cells.")
    depth: Literal[18, 34] = Field(18, description="Layers of the ResNet.")
    width: Literal[16, 32, 64] = Field(32, description="Channels of its first stage; the detector's has 64.")
    size: int = Field(64, ge=32, description="Side in px that the network sees.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="'bf16' computes convolutions in bfloat16.")
    seed: int = Field(0, ge=0, description="Of the first weights, the order of the cells and their views.")


@dataclass(frozen=True)
class SimCLR:
    """A ResNet that tells cells from one another whatever their stain; it needs no label and no mask.

    All cells of a batch are of one domain, so that the stain cannot tell them apart. The weights that embed are a
    moving average of those of the last steps, in place of a rate that falls to zero, so every epoch's checkpoint is a
    result and a training can be made longer.
    """

    config: SimCLRConfig
    Config: ClassVar[type[BaseModel]] = SimCLRConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Self-supervised ResNet (SimCLR) of the crops"
    name: ClassVar[str] = "simclr"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Train on the crops of `rows`; `folder` gets weights.safetensors and metrics.csv (epoch, loss).

        Raises:
            CellfeatError: There are fewer than two rows of a domain, or `folder` holds another run.
        """
        record = folders.run_record(folder, self, store, rows=rows)
        if record.check() and (folder / WEIGHTS).is_file():
            return
        domain = store.table()["domain"].to_numpy(str)[rows]
        names, counts = np.unique(domain, return_counts=True)
        if not len(names) or counts.min() < 2:
            raise MissingRequirement(f"{self.name}: needs two cells of each domain to learn from")
        record.begin()
        crops = _cached(store, rows, folder / CROPS)
        cells = _Views(crops, store.table()["cell_id"].to_numpy(str)[rows], self.config.size)
        module = _Module(cells, _OneDomain(domain, self.config.batch_size, self.config.seed), self.config, folder)
        fit(
            module,
            folder / "checkpoints",
            title=self.name,
            epochs=self.config.epochs,
            cells=len(rows),
            precision=self.config.precision,
        )
        save_tensors(folder / WEIGHTS, cast(CellEncoder, module.average.module).named_weights())
        (folder / CROPS).unlink()
        record.done()

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), 12 · width) float32: the average over four quarter turns."""
        encoder = CellEncoder(self.config.depth, self.config.width)
        encoder.load(folders.load_tensors(folder / WEIGHTS))
        return embed_crops(encoder, store, self.config.size, self.name)


def _cached(store: Store, rows: np.ndarray, path: Path) -> np.ndarray:
    """The crops of `rows` in one uncompressed file, (n, S, S, 3) uint8, mapped: every epoch reads each of them."""
    shape = (len(rows), store.layout.crop_size, store.layout.crop_size, 3)
    with suppress(OSError, ValueError):  # there is none yet, or what is there is damaged
        found = np.lib.format.open_memmap(path, "r")
        if found.shape == shape and found.dtype == np.uint8:
            return found
    with atomic_path(path) as partial:
        crops = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        for start in range(0, len(rows), READ_BATCH):
            crops[start : start + READ_BATCH] = store.read("crops", rows[start : start + READ_BATCH])
        crops.flush()
    return np.load(path, mmap_mode="r")


class _Batch(NamedTuple):
    first: Tensor
    second: Tensor
    rows: Tensor


class _Views(Dataset):
    def __init__(self, crops: np.ndarray, cell_id: np.ndarray, size: int) -> None:
        self.crops, self.cell_id, self.size = crops, cell_id, size

    def __getitem__(self, batch: tuple[np.ndarray, int]) -> _Batch:
        rows, seed = batch
        generator = torch.Generator().manual_seed(seed)
        crops = to_images(self.crops[rows])
        first, second = (random_views(crops, self.size, generator) for _ in range(2))
        return _Batch(first, second, torch.from_numpy(rows))


class _OneDomain(Sampler[tuple[np.ndarray, int]]):
    """Random batches, each of one domain, others in each epoch, each with the seed of its views."""

    def __init__(self, domain: np.ndarray, batch_size: int, seed: int) -> None:
        self._domain, self._batch_size, self._seed, self._epoch = domain, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return sum(self._batches(count) for count in np.unique(self._domain, return_counts=True)[1])

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        rng = np.random.default_rng([self._seed, self._epoch])
        batches = []
        for name in np.unique(self._domain):
            members = rng.permutation(np.flatnonzero(self._domain == name))
            batches += np.array_split(members, self._batches(len(members)))
        for k in rng.permutation(len(batches)):
            yield batches[k], int(rng.integers(2**62))

    def _batches(self, cells: int) -> int:
        return max(1, min(round(cells / self._batch_size), cells // 2))


class _Module(lightning.LightningModule):
    def __init__(self, cells: _Views, sampler: _OneDomain, config: SimCLRConfig, folder: Path) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoder = CellEncoder(config.depth, config.width)
            d = 12 * config.width
            self.projector = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, PROJECTION))
        self.average = AveragedModel(self.encoder, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / AVERAGED_STEPS))
        self._cells, self._sampler, self._config, self._folder = cells, sampler, config, folder
        self._losses: list[float] = []
        self._sum, self._steps = 0.0, 0

    def configure_optimizers(self) -> Any:
        parameters = [*self.encoder.parameters(), *self.projector.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self._config.lr)
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, WARM_UP)
        return [optimizer], [{"scheduler": warm_up, "interval": "step"}]

    def train_dataloader(self) -> DataLoader:
        workers = 8 if self.device.type == "cuda" else 0
        return DataLoader(self._cells, batch_size=None, sampler=self._sampler, num_workers=workers)

    def training_step(self, batch: _Batch, _: int) -> Tensor:
        first, second = self.projector(self.encoder(torch.cat([batch.first, batch.second]))).chunk(2)
        loss = contrast(first, second, self._config.temperature)
        check_loss(loss, self, self._cells.cell_id, batch.rows)
        self._sum, self._steps = self._sum + float(loss.detach()), self._steps + 1
        return loss

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.average.update_parameters(self.encoder)

    def on_train_epoch_end(self) -> None:
        self._losses.append(self._sum / self._steps)
        self._sum, self._steps = 0.0, 0
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(
            [("epoch", "loss"), *((k, f"{loss:.5f}") for k, loss in enumerate(self._losses))]
        )
        write_text(self._folder / METRICS, table.getvalue())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["losses"] = list(self._losses)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._losses = list(checkpoint["losses"])
