"""The alignment of the domains' latents: β·L_DA."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.losses import domain_alignment_loss
from cellfeat.autoencoder.objectives.base import Objective, Step

SMALLEST_SD = 1e-4  # of z, that a relative alignment still divides by: a hundredth of what counts as collapsed


class Alignment(Objective):
    """Distance of the domains' latent statistics over the global batch (equations 4 and 5 of AE-CFE)."""

    name: ClassVar[str] = "alignment_loss"
    anchored: ClassVar[bool] = True
    """Whether one domain is the anchor that the others are aligned to."""

    @classmethod
    def formula(cls, config: AutoencoderConfig) -> str:
        """In words for reports, what a config minimises."""
        if not config.beta:
            return "none, beta is 0"
        source = {
            "sum": "equation 5 of the paper",
            "mean": "the reference implementation, KL term 1/2500 of equation 5",
        }
        relative = ", on latents over their standard deviation" if config.relative_alignment else ""
        return f"L_DA as in {source[config.kl_reduction]}{relative}"

    def weight(self, epoch: int) -> float:
        """β, after its warm-up."""
        return self.config.beta_at(epoch)

    def loss(self, step: Step) -> Tensor:
        """L_DA of the latents of all processes; 0 where only one cell is left of an epoch."""
        z = step.all_z
        if self.config.relative_alignment and len(z) > 1:  # one cell has no standard deviation
            z = z / z.std(0).mean().clamp_min(SMALLEST_SD)
        return domain_alignment_loss(z, step.all_domain, self.config.kl_reduction)
