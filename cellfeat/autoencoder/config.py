"""The settings of an AE-CFE training run; the defaults are the paper's, the preset `transfer` is the study's.

The paper (Salehi et al., MICCAI 2022) and its reference implementation differ in one term: equation 5 adds up the
divergence of the covariances over their 50² elements, the code averages it, which is 1/2500 of it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "code": {"kl_reduction": "mean"},
    "transfer": {
        "epochs": 16,
        "batch_size": 128,
        "schedule": "cosine",
        "network": "pooled",
        "scaling": "domain",
        "profile_weight": 5.0,
        "thumbnail_weight": 0.3,
        "masked_images": True,
        "beta": 1.0,
        "relative_alignment": True,
        "kl_reduction": "mean",
    },
}
"""What a preset sets in place of the defaults; see docs/autoencoder-study.md for the reasons."""


class AutoencoderConfig(BaseModel):
    """Settings of `train_autoencoder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["paper", "code", "transfer"] = Field(
        "paper",
        description=(
            "'paper' is the publication (equations 3 and 5); 'code' its reference implementation, which averages the "
            "divergence of equation 5; 'transfer' makes embeddings that carry across laboratories. Other settings that "
            "are given win over the preset's."
        ),
    )
    epochs: int = Field(150, ge=1, description="Passes over the training part.")
    batch_size: int = Field(1500, ge=1, description="Cells a step, over all processes together.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="'constant', or 'cosine': the rate falls to 0 along half a cosine."
    )
    network: Literal["paper", "pooled"] = Field(
        "paper",
        description=(
            "'paper', or 'pooled' with a path from each channel's mean and deviation to the latent, see "
            "`PooledAutoencoder`."
        ),
    )
    scaling: Literal["cell", "channel", "domain"] = Field(
        "cell",
        description=(
            "Of the features: by the range of each 'cell' (paper), or by the statistics of each 'channel' over "
            "all cells, or over those of the cell's own 'domain'."
        ),
    )
    profile_weight: float = Field(
        0.0,
        ge=0,
        description=(
            "Weight of the profile loss, see `cellfeat.autoencoder.profile`; needs the network 'pooled'. Profiles"
            " are standardised over each domain with the scaling 'domain', else over all cells."
        ),
    )
    thumbnail_weight: float = Field(
        0.0,
        ge=0,
        description=(
            "Weight of the thumbnails' mean squared error over their variance, see "
            "`cellfeat.autoencoder.thumbnail`; needs the network 'pooled'."
        ),
    )
    masked_images: bool = Field(
        False, description="Whiten what lies outside the cell's mask before an image or a thumbnail is a target."
    )
    beta: float = Field(5.0, ge=0, description="Weight of the domain alignment loss.")
    beta_warmup_epochs: int = Field(
        0, ge=0, description="Epochs over which the weight rises linearly from 0 to `beta`."
    )
    anchor: str | None = Field(
        None, description="Domain that all others are aligned to; has to be given where Matek-19 is not among them."
    )
    relative_alignment: bool = Field(
        False,
        description=(
            "Divide z by its mean standard deviation over the batch before it is aligned: otherwise the loss "
            "falls when z shrinks."
        ),
    )
    kl_reduction: Literal["mean", "sum"] = Field(
        "sum",
        description=(
            "'sum' adds the divergence up over all matrix elements (the paper's equation 5), 'mean' averages it "
            "(reference implementation, 1/2500 of the sum)."
        ),
    )
    image_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description=(
            "Share of each batch, drawn at random, that the image loss is computed on. The estimate is unbiased; "
            "the image decoder is 95 % of the arithmetic, so a smaller share is faster almost in proportion."
        ),
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="'bf16' computes convolutions in bfloat16 (weights and losses stay float32)."
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of each domain that training never sees.")
    seed: int = Field(
        0, ge=0, description="Of the split, the first weights, the order of the cells and the choice of images."
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        chosen = PRESETS.get(str(given.get("preset", "paper"))) if isinstance(given, dict) else None
        return {**chosen, **given} if chosen else given

    @model_validator(mode="after")
    def _targets_have_decoders(self) -> AutoencoderConfig:
        for name in ("profile_weight", "thumbnail_weight"):
            if getattr(self, name) and self.network != "pooled":
                raise ValueError(f"{name} needs the network pooled")
        return self

    def beta_at(self, epoch: int) -> float:
        """Weight of the alignment loss in an epoch, counted from 0."""
        if epoch >= self.beta_warmup_epochs:
            return self.beta
        return self.beta * epoch / self.beta_warmup_epochs
