"""AE-CFE without alignment: what the autoencoder alone is worth."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.methods.aecfe import AECFE


class AEConfig(AutoencoderConfig):
    """Settings of `AE`: those of AE-CFE, `beta` is 0."""

    beta: float = Field(0.0, ge=0, le=0)


class AE(AECFE):
    """The same network on the same features, trained to reconstruct and nothing else."""

    Config: ClassVar[type[BaseModel]] = AEConfig
    name: ClassVar[str] = "ae"
