"""AE-CFE itself, as one method among others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from cellfeat.autoencoder import AutoencoderConfig, encode, reconstruct
from cellfeat.autoencoder.weights import read_card
from cellfeat.core.files import as_written
from cellfeat.methods.base import Kind

if TYPE_CHECKING:
    from cellfeat.autoencoder.module import AutoencoderModule
    from cellfeat.store import Store

WEIGHTS = "autoencoder.safetensors"


class AECFEConfig(AutoencoderConfig):
    """Settings of `AECFE`: those of the training, and two for weights that were trained before."""

    without_effect: ClassVar[dict[str, Any]] = {}
    """Settings that a variant of the method has no use for, with the value that says so."""

    weights: str | None = Field(None, description="A trained autoencoder.safetensors; then nothing is learned.")
    embed_precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description=(
            "'bf16' embeds with convolutions in bfloat16; the encoder's last normalisations divide by the spread of a "
            "few numbers each, which widens bfloat16's rounding to a few hundredths of z."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_has_no_effect(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, value in cls.without_effect.items():
            if given.get(name, value) != value:
                raise ValueError(f"{name} has no effect on this method; leave it out")
        return {**cls.without_effect, **given}  # a preset would set them

    def training(self) -> AutoencoderConfig:
        """The settings of the training alone."""
        return AutoencoderConfig.model_validate(self.model_dump(include=set(AutoencoderConfig.model_fields)))


@dataclass(frozen=True)
class AECFE:
    """The autoencoder of ROI features whose latent is aligned between domains; see `cellfeat.autoencoder`."""

    config: AECFEConfig
    Config: ClassVar[type[BaseModel]] = AECFEConfig
    Module: ClassVar[type[AutoencoderModule] | None] = None  # that is trained, in place of `AutoencoderModule`
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "AE-CFE, the autoencoder of detector features with aligned domains"
    name: ClassVar[str] = "aecfe"
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def draws(self) -> bool:
        """Weights that are given need no seed."""
        return self.config.weights is None

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Train on the cells `rows` of all their domains; the config's own split is not used."""
        if self.config.weights is not None:
            return
        from cellfeat.autoencoder import train_autoencoder  # Lightning takes seconds to import

        chosen = {"module_class": self.Module} if self.Module else {}
        train_autoencoder(store, folder, self.config.training(), rows, **chosen)

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(n, 50) float32 in [-1, 1]."""
        return encode(store, self._weights(folder), precision=self.config.embed_precision)

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), 128, 128, 3) uint8 RGB."""
        images = reconstruct(store, self._weights(folder), rows).transpose(0, 2, 3, 1)
        return (images * 255).round().astype(np.uint8)

    def provenance(self, folder: Path) -> dict[str, str]:
        """The settings that the weights were trained with, and their digest."""
        path = self._weights(folder)
        card = read_card(path)
        with as_written(path.with_suffix(".json"), "train again"):
            config = card["config"] | {"embed_precision": self.config.embed_precision}
        config |= {"alignment": card["alignment"]} if "alignment" in card else {}
        return {"config": json.dumps(config, sort_keys=True), "weights_sha256": card["weights_sha256"]}

    def _weights(self, folder: Path) -> Path:
        return Path(self.config.weights or folder / WEIGHTS)
