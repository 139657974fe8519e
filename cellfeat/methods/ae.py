"""AE-CFE without alignment: what the autoencoder alone is worth."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from cellfeat.methods.aecfe import AECFE, AECFEConfig


class AEConfig(AECFEConfig):
    """Settings of `AE`: those of AE-CFE, without those of the alignment."""

    without_effect: ClassVar[dict[str, Any]] = {
        "beta": 0.0,
        "beta_warmup_epochs": 0,
        "relative_alignment": False,
        "kl_reduction": "sum",
    }


class AE(AECFE):
    """The same network on the same features, trained to reconstruct and nothing else."""

    Config: ClassVar[type[BaseModel]] = AEConfig
    title: ClassVar[str] = "AE-CFE without alignment"
    name: ClassVar[str] = "ae"
