"""97 measured numbers a cell, which a person can read: `cellfeat.data.measurements` on the crops of a store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cellfeat.data.alignment import standardised
from cellfeat.data.crops import crop_window
from cellfeat.data.measurements import Unit, measure_cell, measurement_names
from cellfeat.errors import CellfeatError
from cellfeat.methods.base import Kind
from cellfeat.store import embed_batches
from cellfeat.store.margin import margin_of

if TYPE_CHECKING:
    from cellfeat.store import Store

BATCH = 64


class MeasurementsConfig(BaseModel):
    """Settings of `Measurements`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standardise: bool = Field(
        True, description="Give each number mean 0 and standard deviation 1 within its domain, over all of its cells."
    )
    um_per_px: dict[str, float] | None = Field(
        None, description="Micrometres a pixel of the images of each domain; without it lengths are in px."
    )
    crop_margin: float | None = Field(
        None, ge=0, le=1, description="Around the box, a fraction of its longer side; None takes what the store tells."
    )


@dataclass(frozen=True)
class Measurements:
    """Colours, shapes and textures of cell, nucleus and cytoplasm; nothing is trained."""

    config: MeasurementsConfig
    Config: ClassVar[type[BaseModel]] = MeasurementsConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Measured colours, shapes and textures"
    name: ClassVar[str] = "measurements"
    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    @property
    def unit(self) -> Unit:
        """Of lengths and areas, before they are standardised."""
        return "px" if self.config.um_per_px is None else "um"

    def provenance(self, folder: Path) -> dict[str, Any]:
        """The names of the numbers, as a JSON list, beside the config."""
        return {"names": json.dumps(measurement_names(self.unit))}

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), 97) float32.

        Raises:
            CellfeatError: The store does not tell its crops' margin, or a domain has no scale.
        """
        table = store.table()
        pixels = self._pixels(store)

        def measure(rows: np.ndarray) -> np.ndarray:
            cells = zip(store.read("crops", rows), store.read("masks", rows), pixels[rows])
            return np.stack([measure_cell(*cell) for cell in cells])

        found = embed_batches(store, self.name, BATCH, measure)
        return standardised(found, table["domain"].to_numpy(str)) if self.config.standardise else found

    def _pixels(self, store: Store) -> np.ndarray:
        """Side of each cell's crop pixel, (n,) in `unit`."""
        table = store.table()
        margin = self.config.crop_margin
        if margin is None:  # standardised numbers are the same whatever it is
            margin = 0.0 if self.config.standardise else margin_of(store, "set crop_margin")
        sides = np.array([crop_window(box, margin)[2] for box in table[["x0", "y0", "x1", "y1"]].to_numpy()])
        scale = self.config.um_per_px
        if scale is None:
            return sides / store.layout.crop_size
        if missing := sorted(set(table["domain"]) - set(scale)):
            raise CellfeatError(f"{self.name}: um_per_px has no value for the domain {missing[0]!r}", "add it")
        return sides / store.layout.crop_size * table["domain"].map(scale).to_numpy(float)
