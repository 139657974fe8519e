"""The settings of an AE-CFE training run; the defaults are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AutoencoderConfig(BaseModel):
    """Settings of `train_autoencoder`.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Cells a step, over all processes together.
        lr: Learning rate of Adam.
        beta: Weight of the domain alignment loss.
        beta_warmup_epochs: Epochs over which the weight rises linearly from 0 to `beta`.
        anchor: Domain that all others are aligned to; None takes the first in alphabetical order.
        kl_reduction: "mean" averages the divergence over all matrix elements (reference implementation), "sum" adds
            them up (the paper's formula, 2500 times as much).
        image_fraction: Share of each batch, drawn at random, that the image loss is computed on. The estimate is
            unbiased; the image decoder is 95 % of the arithmetic, so a smaller share is faster almost in proportion.
        precision: "bf16" computes convolutions in bfloat16 (weights and losses stay float32).
        test_fraction: Share of each domain that training never sees.
        seed: Of the split, the first weights, the order of the cells and the choice of images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(150, ge=1)
    batch_size: int = Field(1500, ge=1)
    lr: float = Field(1e-3, gt=0)
    beta: float = Field(5.0, ge=0)
    beta_warmup_epochs: int = Field(0, ge=0)
    anchor: str | None = None
    kl_reduction: Literal["mean", "sum"] = "mean"
    image_fraction: float = Field(1.0, gt=0, le=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    test_fraction: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0)

    def beta_at(self, epoch: int) -> float:
        """Weight of the alignment loss in an epoch, counted from 0."""
        if epoch >= self.beta_warmup_epochs:
            return self.beta
        return self.beta * epoch / self.beta_warmup_epochs
