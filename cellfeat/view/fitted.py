"""Where a fitted network looks, for the card of a cell: Grad-CAM or attention, computed when it is asked for."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.view.stores import Part

KEPT = 64  # cells whose heat maps are in memory, 50 kB each


class Fitted:
    """A network that was fitted on one of the stores.

    Args:
        folder: Where it was fitted.
        part: The store.

    Raises:
        CellfeatError: `folder` holds no network, or it was fitted on another store.
    """

    def __init__(self, folder: Path, part: Part) -> None:
        from cellfeat.methods import folder as folders  # brings PyTorch, which a page without networks does not need

        self.folder, self.part = folder, part
        self.method = folders.reopen(folder, part.store)
        if not hasattr(self.method, "load"):
            raise CellfeatError(f"{folder}: {self.method.name} has no network that looks", "mdd, resnext, finetune do")
        self._lock = threading.Lock()  # heat maps hook into the one network
        self._loaded: tuple[Any, tuple[str, ...], Any] | None = None
        self.look = lru_cache(KEPT)(self._look)

    def _look(self, row: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """The classes, the probability of each (k,), and the crop of a cell under its heat map (S, S, 3) uint8.

        Args:
            row: Of all cells that are shown.

        Raises:
            CellfeatError: The network does not know the cell's domain, or pytorch-grad-cam is missing.
        """
        from cellfeat.reporting.heat_maps import look, overlay

        local = np.array([row - self.part.rows.start])
        with self._lock:
            if self._loaded is None:
                self._loaded = self.method.load(self.part.store, self.folder)
            network, classes, dataset = self._loaded
            domain = self.part.store.table()["domain"].iloc[int(local[0])]
            if domain not in dataset.normalisation.number:
                raise CellfeatError(f"{self.folder}: {self.method.name} was not fitted for the domain {domain!r}")
            probabilities, [heat] = look(network, dataset, local)
        [crop] = self.part.store.read("crops", local)
        return classes, probabilities[0], overlay(crop, heat)
