"""Adversarial domain adaptation of the autoencoder's latent: a discriminator names the domain, the encoder confuses it.

Source: Tzeng, Hoffman, Darrell, Saenko, "Simultaneous deep transfer across domains and tasks", ICCV 2015, equations 2
and 3; taken up as L_adv by Tzeng et al., "Adversarial discriminative domain adaptation", CVPR 2017. With K domains and
the discriminator's probabilities D_k(z):

    discriminator:  − 1/K Σ_k mean over the cells of domain k of log D_k(z)    (every domain weighs the same)
    encoder:        − 1/K Σ_k log D_k(z)                                       (cross-entropy to the uniform answer)

Where the discriminator can only guess, D_k = 1/K, the encoder's loss has its minimum log K and no gradient, and the
discriminator has none towards the larger domains.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.autoencoder.network import LATENT_SIZE
from cellfeat.autoencoder.objectives import Alignment, Step
from cellfeat.methods.aecfe import AECFE, AECFEConfig

HIDDEN = 500  # as in Tzeng et al. 2017


def confusion_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of the uniform distribution to the discriminator's answer; logits (n, K)."""
    return -logits.log_softmax(dim=1).mean()


def discrimination_loss(logits: Tensor, domain: Tensor) -> Tensor:
    """Cross-entropy of the domains (n,) int64 to the answer, every domain with the same weight; logits (n, K)."""
    counts = torch.bincount(domain, minlength=logits.shape[1])
    return functional.cross_entropy(logits, domain, weight=1 / counts.clamp_min(1).to(logits))


class Adversary(Alignment):
    """The two losses above in place of L_DA; metrics.csv has discriminator_loss beside their sum."""

    anchored: ClassVar[bool] = False

    @classmethod
    def formula(cls, config: AutoencoderConfig) -> str:
        """In words for reports."""
        return "an adversary in place of L_DA"

    def __init__(self, config: AutoencoderConfig, domains: int) -> None:
        super().__init__(config, domains)
        self.discriminator = nn.Sequential(
            nn.Linear(LATENT_SIZE, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, domains),
        )

    def loss(self, step: Step) -> Tensor:
        """Confusion, which changes the encoder alone, plus discrimination, which changes the discriminator alone.

        β scales both; Adam is invariant to the scale of the discriminator's gradient.
        """
        z, domain = step.all_z, step.all_domain
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        confusion = confusion_loss(functional_call(self.discriminator, frozen, (z,)))
        discrimination = discrimination_loss(self.discriminator(z.detach()), domain)
        step.log("discriminator_loss", discrimination)
        return confusion + discrimination


class AdversarialModule(AutoencoderModule):
    """AE-CFE with an adversary in place of L_DA."""

    Alignment: ClassVar[type[Alignment]] = Adversary


class AAEConfig(AECFEConfig):
    """Settings of `AAE`: those of AE-CFE; `beta` weighs the adversary, which has no use for the form of L_DA."""

    without_effect: ClassVar[dict[str, Any]] = {"relative_alignment": False, "kl_reduction": "sum"}

    beta: float = Field(1.0, gt=0, description="Weight of the adversary's losses.")


class AAE(AECFE):
    """The autoencoder of AE-CFE, its latent aligned by an adversary."""

    Config: ClassVar[type[BaseModel]] = AAEConfig
    Module: ClassVar[type[AutoencoderModule] | None] = AdversarialModule
    title: ClassVar[str] = "AE-CFE aligned by an adversary in place of L_DA"
    name: ClassVar[str] = "aae"
