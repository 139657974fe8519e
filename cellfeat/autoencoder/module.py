"""One training step and one epoch of AE-CFE, as a LightningModule."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.data import Batch, BatchSampler, CellDataset
from cellfeat.autoencoder.health import latent_health
from cellfeat.autoencoder.losses import domain_alignment_loss, mse, ssim
from cellfeat.autoencoder.pooled_network import PooledAutoencoder, build_network
from cellfeat.autoencoder.profile import measure, profile_loss
from cellfeat.autoencoder.scaling import ChannelScaling
from cellfeat.autoencoder.thumbnail import measure_thumbnails
from cellfeat.core.lightning_trainer import check_loss

log = logging.getLogger(__name__)

SMALLEST_SD = 1e-4
"""Of z, that a relative alignment still divides by."""


class AutoencoderModule(lightning.LightningModule):
    """Trains `network` on MSE(ĥ, h) + 1 − SSIM(r̂, r) + β·L_DA, plus the losses of profile and thumbnail where weighed.

    `history` holds one dict an epoch: epoch (from 0), loss, feature_loss, image_loss, alignment_loss, profile_loss
    and thumbnail_loss (where weighed), beta, cells_per_second, and for each domain sd_<domain> and
    effective_rank_<domain> of the latents seen in that epoch. It travels in the checkpoint.
    """

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
        self._profiles: Tensor | None = None
        self._thumbnails: Tensor | None = None
        self._thumbnail_variance = 1.0
        self._look_at_cells()

    def _look_at_cells(self) -> None:
        """Measure what scaling and the losses need; the same cells give the same numbers when a run goes on."""
        store, rows = self._dataset.store, self._train_rows
        group = self._dataset.domain[rows]
        if isinstance(self.network.scaling, ChannelScaling):
            self.network.scaling.measure(store, rows, group)
        if isinstance(self.network, PooledAutoencoder):
            if self._config.profile_weight:
                group = group if self._config.scaling == "domain" else np.zeros_like(group)
                self._profiles, pooled = measure(store, rows, group, self.network.scaling)
                self.network.warm_start(pooled, self._profiles)
            else:
                self.network.profile_decoder.requires_grad_(False)  # several processes wait for every gradient
            if self._config.thumbnail_weight:
                self._thumbnails = measure_thumbnails(store, rows, self._config.masked_images)
                self._thumbnail_variance = max(float(self._thumbnails.square().mean()), 1e-12)
            else:
                self.network.thumbnail_decoder.requires_grad_(False)

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
        """Loss of one batch; the image part is computed on `batch.image_index` only, L_DA on the global batch."""
        h = self.network.scaling(batch.features, batch.domain).contiguous(memory_format=torch.channels_last)
        z = self.network.encode(h)
        features_hat = self.network.decode_features(z)
        image_hat = self.network.decode_images(features_hat[batch.image_index])
        crops = batch.crops.permute(0, 3, 1, 2).float() / 255
        own_z = z.float()
        z, domain = self._gather(own_z), self._gather(batch.domain)
        feature_loss = mse(features_hat, h)
        image_loss = 1 - ssim(image_hat, crops)
        alignment_loss = self.alignment_loss(z, domain)
        loss = feature_loss + image_loss + self._config.beta_at(self.current_epoch) * alignment_loss
        losses = {"feature_loss": feature_loss, "image_loss": image_loss, "alignment_loss": alignment_loss}
        if isinstance(self.network, PooledAutoencoder):
            places = np.searchsorted(self._train_rows, batch.rows.cpu().numpy())
            if self._profiles is not None:
                profiles = self.network.decode_profile(own_z)
                losses["profile_loss"] = profile_loss(profiles, self._profiles[places].to(h))
                loss = loss + self._config.profile_weight * losses["profile_loss"]
            if self._thumbnails is not None:
                thumbnails = self.network.decode_thumbnails(features_hat)
                error = mse(thumbnails, self._thumbnails[places].to(h))
                losses["thumbnail_loss"] = error / self._thumbnail_variance
                loss = loss + self._config.thumbnail_weight * losses["thumbnail_loss"]
        losses = {"loss": loss, **losses}
        self._latents.append((z.detach().cpu(), domain.cpu()))
        self.log_dict(losses, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(h))
        check_loss(loss, self, self._dataset.cell_id, batch.rows)
        return loss

    def alignment_loss(self, z: Tensor, domain: Tensor) -> Tensor:
        """What β weighs: L_DA of the latents z (n, 50) of the global batch, domain (n,) int64; others may override."""
        if self._config.relative_alignment:
            z = z / z.std(0).mean().clamp_min(SMALLEST_SD)
        return domain_alignment_loss(z, domain, self._config.kl_reduction)

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
