"""The alignment of the domains' latents: β·L_DA."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cellfeat.autoencoder.losses import domain_alignment_loss
from cellfeat.autoencoder.objectives.base import Objective, Step

SMALLEST_SD = 1e-4  # of z, that a relative alignment still divides by: a hundredth of what counts as collapsed


class Alignment(Objective):
    """Distance of the domains' latent statistics over the global batch (equations 4 and 5 of AE-CFE)."""

    name: ClassVar[str] = "alignment_loss"

    def weight(self, epoch: int) -> float:
        """β, after its warm-up."""
        return self.config.beta_at(epoch)

    def loss(self, step: Step) -> Tensor:
        """L_DA of the latents of all processes; 0 where only one cell is left of an epoch."""
        z = step.all_z
        if self.config.relative_alignment and len(z) > 1:  # one cell has no standard deviation
            z = z / z.std(0).mean().clamp_min(SMALLEST_SD)
        return domain_alignment_loss(z, step.all_domain, self.config.kl_reduction)
