"""The rows that ablate_autoencoder.py trains, and the changes among them that the package has no option for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cellfeat.autoencoder import Autoencoder
from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.losses import domain_alignment_loss
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.autoencoder.objectives import Alignment, Step
from cellfeat.autoencoder.pooled_network import PooledAutoencoder, draw_weights


def one_group(network: Autoencoder) -> None:
    """One group in every GroupNorm."""
    for layer in norms(network):
        layer.num_groups = 1


def last_one_group(network: Autoencoder) -> None:
    """One group in the last GroupNorm, the one over 1 x 1 px."""
    norms(network)[-1].num_groups = 1


def norms(network: Autoencoder) -> list[nn.GroupNorm]:
    return [layer for layer in network.encoder if isinstance(layer, nn.GroupNorm)]


@torch.no_grad()
def he(network: Autoencoder) -> None:
    """Weights after He et al. in place of PyTorch's default."""
    for part in (network.encoder, network.feature_decoder, network.image_decoder):
        draw_weights(part, last_gain=0.5)


def no_tanh(network: Autoencoder) -> None:
    """A latent that is not squashed."""
    network.encoder[-1] = nn.Identity()


def features_first(network: Autoencoder) -> None:
    """A tenth of the image loss's pull on what lies before the image decoder."""
    decode = network.decode_images
    network.decode_images = lambda hat: decode(0.1 * hat + 0.9 * hat.detach())  # type: ignore[method-assign]


@torch.no_grad()
def cold_start(network: PooledAutoencoder) -> None:
    """The pooled path and the profile decoder start from random weights."""
    network.pooled_path.reset_parameters()
    network.profile_decoder.reset_parameters()


@torch.no_grad()
def no_path(network: PooledAutoencoder) -> None:
    """The profile has to come through the convolutions."""
    draw_weights(network.encoder, last_gain=0.25)
    network.pooled_path.weight.zero_()
    network.pooled_path.requires_grad_(False)
    network.profile_decoder.reset_parameters()


class QueuedAlignment(Alignment):
    """Statistics of L_DA over the latents of the last twelve batches, about the paper's 1,500 cells."""

    def __init__(self, config: AutoencoderConfig, domains: int) -> None:
        super().__init__(config, domains)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def loss(self, step: Step) -> Tensor:
        z, domain = step.all_z, step.all_domain
        latents, domains = torch.cat([z, *(z for z, _ in self._kept)]), torch.cat([domain, *(d for _, d in self._kept)])
        self._kept = [*self._kept, (z.detach(), domain)][-11:]
        return domain_alignment_loss(latents, domains, self.config.kl_reduction)


class Queue(AutoencoderModule):
    """AE-CFE with the alignment above."""

    Alignment = QueuedAlignment


@dataclass(frozen=True)
class Setting:
    """One row of the study: what differs from the runner's SIZE, and what the package has no option for."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Any], None] | None = None
    module: type[AutoencoderModule] = AutoencoderModule


FREE: dict[str, Any] = {"beta": 0}
TRANSFER: dict[str, Any] = {"preset": "transfer"}
SETTINGS = [
    Setting("code"),
    Setting("code, beta 0", FREE),
    Setting("code, beta warm-up 6 epochs", {"beta_warmup_epochs": 6}),
    Setting("paper", {"preset": "paper"}),
    Setting("code, relative L_DA", {"relative_alignment": True}),
    Setting("code, L_DA over 12 batches", module=Queue),
    Setting("beta 0, batch 32", FREE | {"batch_size": 32}),
    Setting("beta 0, 36 epochs", FREE | {"epochs": 36}),
    Setting("beta 0, lr 3e-4", FREE | {"lr": 3e-4}),
    Setting("beta 0, lr 3e-3", FREE | {"lr": 3e-3}),
    Setting("beta 0, cosine", FREE | {"schedule": "cosine"}),
    Setting("beta 0, scaling channel", FREE | {"scaling": "channel"}),
    Setting("beta 0, scaling domain", FREE | {"scaling": "domain"}),
    Setting("beta 0, last norm one group", FREE, last_one_group),
    Setting("beta 0, all norms one group", FREE, one_group),
    Setting("beta 0, He", FREE, he),
    Setting("beta 0, no tanh", FREE, no_tanh),
    Setting("beta 0, image loss x 0.1", FREE, features_first),
    Setting("beta 0, masked images", FREE | {"masked_images": True}),
    Setting("beta 0, pooled network", FREE | {"network": "pooled"}),
    Setting("beta 0, pooled network, scaling domain", FREE | {"network": "pooled", "scaling": "domain"}),
    Setting("transfer", TRANSFER),
    Setting("transfer, beta 0", TRANSFER | FREE),
    Setting("transfer, beta 10", TRANSFER | {"beta": 10}),
    Setting("transfer, absolute L_DA", TRANSFER | {"beta": 5, "relative_alignment": False}),
    Setting("transfer, scaling channel", TRANSFER | {"scaling": "channel"}),
    Setting("transfer, scaling channel, beta 0", TRANSFER | FREE | {"scaling": "channel"}),
    Setting("transfer, no profile", TRANSFER | {"profile_weight": 0}),
    Setting("transfer, profile weight 1", TRANSFER | {"profile_weight": 1}),
    Setting("transfer, profile weight 20", TRANSFER | {"profile_weight": 20}),
    Setting("transfer, no thumbnails", TRANSFER | {"thumbnail_weight": 0}),
    Setting("transfer, thumbnail weight 3", TRANSFER | {"thumbnail_weight": 3}),
    Setting("transfer, lr 3e-4", TRANSFER | {"lr": 3e-4}),
    Setting("transfer, cold start", TRANSFER, cold_start),
    Setting("transfer, no pooled path", TRANSFER, no_path),
    Setting("transfer, images with surroundings", TRANSFER | {"masked_images": False}),
    Setting("transfer, constant rate", TRANSFER | {"schedule": "constant"}),
    Setting("transfer, image_fraction 0.1", TRANSFER | {"image_fraction": 0.1}),
    Setting("transfer, 36 epochs", TRANSFER | {"epochs": 36}),
]
