"""AE-CFE without alignment: what the autoencoder alone is worth."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.methods.aecfe import AECFE


class AEConfig(AutoencoderConfig):
    """Settings of `AE`: those of AE-CFE, `beta` is 0."""

    beta: float = Field(0.0, ge=0, le=0)

    @model_validator(mode="before")
    @classmethod
    def _no_alignment_of_a_preset(cls, given: Any) -> Any:
        return {"beta": 0.0, **given} if isinstance(given, dict) else given


class AE(AECFE):
    """The same network on the same features, trained to reconstruct and nothing else."""

    Config: ClassVar[type[BaseModel]] = AEConfig
    name: ClassVar[str] = "ae"
