"""One training step and one epoch of AE-CFE, as a LightningModule."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.data import Batch, BatchSampler, CellDataset
from cellfeat.autoencoder.health import latent_health
from cellfeat.autoencoder.objectives import Alignment, Step, objectives_of
from cellfeat.autoencoder.pooled_network import PooledAutoencoder, build_network
from cellfeat.autoencoder.scaling import ChannelScaling
from cellfeat.core.lightning_trainer import check_loss

log = logging.getLogger(__name__)


class AutoencoderModule(lightning.LightningModule):
    """Trains `network` on the sum of its objectives, see `cellfeat.autoencoder.objectives`.

    `history` holds one dict an epoch: epoch (from 0), loss, the loss of each objective by its name, beta,
    cells_per_second, and for each domain sd_<domain> and
    effective_rank_<domain> of the latents seen in that epoch. It travels in the checkpoint.

    Attributes:
        Alignment: The objective that β weighs; others may take the place of L_DA.
    """

    Alignment: ClassVar[type[Alignment]] = Alignment

    def __init__(
        self,
        dataset: CellDataset,
        train_rows: np.ndarray,
        domains: list[str],
        config: AutoencoderConfig,
        on_epoch: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """`train_rows` ascend, `domains` names `dataset`'s numbers, `on_epoch` gets the history after each epoch."""
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = build_network(config.network, config.scaling, len(domains))
        self.network = network.to(memory_format=torch.channels_last)
        self.history: list[dict[str, Any]] = []
        self._dataset = dataset
        self._train_rows = train_rows
        self._domains = domains
        self._config = config
        self._on_epoch = on_epoch
        self._latents: list[tuple[Tensor, Tensor]] = []
        self._collapsed: set[str] = set()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._objectives = objectives_of(config, len(domains), self.Alignment)
        self.objectives = nn.ModuleList(self._objectives)  # their parameters are trained too
        self._prepare()

    def _prepare(self) -> None:
        """Measure what scaling and objectives need; the same cells give the same numbers when a run continues."""
        store, rows = self._dataset.store, self._train_rows
        group = self._dataset.domain[rows]
        if isinstance(self.network.scaling, ChannelScaling):
            self.network.scaling.measure(store, rows, group)
        if isinstance(self.network, PooledAutoencoder):  # several processes wait for the gradient of every parameter
            self.network.profile_decoder.requires_grad_(self._config.profile_weight > 0)
            self.network.thumbnail_decoder.requires_grad_(self._config.thumbnail_weight > 0)
        for objective in self._objectives:
            objective.prepare(store, rows, group, self.network)

    def configure_optimizers(self) -> Any:
        """Adam, its rate constant or falling to 0 along half a cosine."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self._config.lr)
        if self._config.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def train_dataloader(self) -> DataLoader:
        """Whole batches of this process's share; worker processes read ahead where a GPU would wait for the disk."""
        sampler = BatchSampler(
            self._train_rows,
            self._config.batch_size,
            self._config.image_fraction,
            self._config.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        workers = 4 if self.device.type == "cuda" else 0
        return DataLoader(self._dataset, batch_size=None, sampler=sampler, num_workers=workers)

    def on_train_epoch_start(self) -> None:
        self._latents.clear()
        self._started = time.perf_counter()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Weighted sum of the objectives over one batch; images count on `batch.image_index`, L_DA globally."""
        h = self.network.scaling(batch.features, batch.domain).contiguous(memory_format=torch.channels_last)
        z = self.network.encode(h)
        features_hat = self.network.decode_features(z)
        indices = np.searchsorted(self._train_rows, batch.rows.cpu().numpy())
        all_z, all_domain = self._gather(z.float()), self._gather(batch.domain)
        step = Step(batch, self.network, indices, h, z, features_hat, all_z, all_domain, self._log_further)
        losses = {objective.name: objective.loss(step) for objective in self._objectives}
        weights = [objective.weight(self.current_epoch) for objective in self._objectives]
        loss = sum(
            (weight * value for weight, value in zip(weights, losses.values())), torch.zeros((), device=z.device)
        )
        self._latents.append((all_z.detach().cpu(), all_domain.cpu()))
        self.log_dict({"loss": loss, **losses}, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(h))
        check_loss(loss, self, self._dataset.cell_id, batch.rows)
        return loss

    def _log_further(self, name: str, value: Tensor) -> None:
        self.log(name, value, on_step=False, on_epoch=True)

    def _gather(self, share: Tensor) -> Tensor:
        """Rows (n, ...) of all processes in one tensor; gradients flow back to the process they came from."""
        gathered: Any = self.all_gather(share, sync_grads=True)
        return gathered.reshape(-1, *share.shape[1:])

    def on_train_epoch_end(self) -> None:
        """Append to the history, warn on collapse."""
        losses = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        z = torch.cat([z for z, _ in self._latents])
        domain = torch.cat([domain for _, domain in self._latents])
        row: dict[str, Any] = {"epoch": self.current_epoch} | losses
        row["beta"] = self._config.beta_at(self.current_epoch)
        row["cells_per_second"] = len(z) / (time.perf_counter() - self._started)
        row |= self._measure_health(z, domain)
        self.history.append(row)
        self._on_epoch(self.history)

    def _measure_health(self, z: Tensor, domain: Tensor) -> dict[str, float]:
        measured: dict[str, float] = {}
        for number, name in enumerate(self._domains):
            health = latent_health(z[domain == number])
            measured |= {f"sd_{name}": health.sd, f"effective_rank_{name}": health.effective_rank}
            if health.collapsed and name not in self._collapsed:
                self._collapsed.add(name)
                log.warning(
                    "epoch %d: the latent of domain %s has collapsed (sd %.2g, effective rank %.2g): "
                    "lower beta or raise beta_warmup_epochs",
                    self.current_epoch,
                    name,
                    health.sd,
                    health.effective_rank,
                )
        return measured

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
