"""The embedding that comes with the package: a self-supervised network and measured numbers, with nothing to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cellfeat.core.tensors import load_tensors
from cellfeat.core.weights import packaged
from cellfeat.data.alignment import standardised
from cellfeat.methods.cell_encoder import CellEncoder, embed_crops
from cellfeat.methods.measurements import Measurements, MeasurementsConfig

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

WEIGHTS = Path(__file__).parent / "weights" / "wbc_ssl.safetensors"  # MODEL_CARD.md beside it
SHA256 = "b932ceeed16cee7048ff301c7b0da2d025d865a07dc5ecc388d6282075e26cf8"
DEPTH, WIDTH = 18, 16  # of the network that they are of
SIZE = 64  # px that it sees; it learned at 48 px, and carries a little further at 64 (docs/self-supervised.md)


class WBCSSLConfig(BaseModel):
    """Settings of `WBCSSL`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measurements: bool = Field(True, description="Join the 97 numbers of the method `measurements`; they need masks.")
    view: float = Field(
        1.0, gt=0.2, le=1, description="Share of the crop's side that the network sees; less where crops are not tight."
    )
    standardise: bool = Field(
        True, description="Give each number mean 0 and standard deviation 1 within its domain, over all of its cells."
    )


@dataclass(frozen=True)
class WBCSSL:
    """A small ResNet trained without labels on cells of Barcelona and Munich, joined to `measurements`."""

    config: WBCSSLConfig
    Config: ClassVar[type[BaseModel]] = WBCSSLConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Built in: self-supervised network and measurements"
    name: ClassVar[str] = "wbc-ssl"

    @property
    def needs(self) -> frozenset[str]:
        """Masks for the measurements."""
        return frozenset({"masks"} if self.config.measurements else ())

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), 192 + 97) float32, the network's numbers first.

        Raises:
            Damaged: The weights in the package are not those that were published with it.
        """
        z = embed_crops(built_in_encoder(), store, SIZE, self.name, self.config.view)
        if self.config.measurements:
            measured = MeasurementsConfig(standardise=self.config.standardise, um_per_px=None, crop_margin=None)
            z = np.hstack([z, Measurements(measured).embed(store, folder)])
        return standardised(z, store.table()["domain"].to_numpy(str)) if self.config.standardise else z


def built_in_encoder() -> CellEncoder:
    """The network with the package's weights.

    Raises:
        Damaged: They are missing or changed.
    """
    encoder = CellEncoder(DEPTH, WIDTH)
    encoder.load(load_tensors(packaged(WEIGHTS, SHA256), "install cellfeat again", "install cellfeat again"))
    return encoder
