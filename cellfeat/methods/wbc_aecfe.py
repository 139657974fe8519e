"""AE-CFE trained beforehand, on the features of the built-in detector: its weights come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from cellfeat.core.weights import packaged
from cellfeat.detection.checkpoint import BUILT_IN_SHA256
from cellfeat.errors import CellfeatError
from cellfeat.methods.aecfe import AECFE, AECFEConfig
from cellfeat.store.origins import detectors_of

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

WEIGHTS = (
    Path(__file__).parent / "weights" / "wbc_aecfe.safetensors"
)  # its card wbc_aecfe.json and WBC_AECFE.md beside it
SHA256 = "f7275b3c0184392f7b74a8bb847a0268d6cd24dfc3178fe5ac60d7479e853182"


class WBCAECFEConfig(BaseModel):
    """`WBCAECFE` has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class WBCAECFE:
    """AE-CFE with the preset `transfer`, learned from cells of Barcelona and Munich without their labels.

    A laboratory that it has not seen is scaled by the statistics of its own cells, so embed many of them together.
    """

    config: WBCAECFEConfig
    Config: ClassVar[type[BaseModel]] = WBCAECFEConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Built in: AE-CFE on features of the built-in detector"
    name: ClassVar[str] = "wbc-aecfe"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), 50) float32 in [-1, 1].

        Raises:
            CellfeatError: Another detector has made the features.
            Damaged: The weights in the package are not those that were published with it.
        """
        self._check(store)
        return self._trained().embed(store, folder)

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), 128, 128, 3) uint8 RGB; errors as of `embed`."""
        self._check(store)
        return self._trained().reconstruct(store, rows, folder)

    def provenance(self, folder: Path) -> dict[str, Any]:
        """The settings that the weights were trained with, and their digest."""
        return self._trained().provenance(folder)

    def _check(self, store: Store) -> None:
        if detectors_of(store) - {BUILT_IN_SHA256}:
            raise CellfeatError(
                f"{store.path}: its features are of another detector than the built-in one, which {self.name} reads",
                "dump without --weights, or train an autoencoder on this store: cellfeat train-ae",
            )

    def _trained(self) -> AECFE:
        return AECFE(AECFEConfig.model_validate({"weights": str(packaged(WEIGHTS, SHA256))}))
