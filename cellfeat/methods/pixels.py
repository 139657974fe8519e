"""Logistic regression on pixels, the baseline of the Leukopy article (65 to 70 % on its eleven classes)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cellfeat.core.files import as_written, read_json, write_json
from cellfeat.core.tensors import save_tensors
from cellfeat.methods import folder as folders
from cellfeat.methods.classifier import MODEL, WEIGHTS, numbered_labels

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

BATCH = 1024  # crops at a time: 50 MB of 128 px


class PixelsConfig(BaseModel):
    """Settings of `Pixels`; the article does not state any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: int = Field(32, ge=1, description="Height and width that the crop is shrunk to, px.")
    strength: float = Field(1e-3, gt=0, description="Inverse of the regularisation, scikit-learn's C.")
    iterations: int = Field(300, ge=1, description="At most, of L-BFGS.")


@dataclass(frozen=True)
class Pixels:
    """Multinomial logistic regression on the standardised pixels of the shrunk crop."""

    config: PixelsConfig
    Config: ClassVar[type[BaseModel]] = PixelsConfig
    kind: ClassVar[Kind] = "prediction"
    title: ClassVar[str] = "Logistic regression on pixels, the Leukopy article's baseline"
    name: ClassVar[str] = "pixels"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    adapts: ClassVar[bool] = False

    def fit(self, store: Store, rows: np.ndarray, folder: Path, target_rows: np.ndarray) -> None:
        """Learn from `rows`; `folder` gets weights.safetensors and model.json.

        Raises:
            MissingRequirement: A cell of `rows` has no label, or all have the same.
            DifferentInputs: `folder` holds another fit.
        """
        record = folders.run_record(folder, self, store, rows=rows)
        if record.check() and (folder / MODEL).is_file():
            return
        record.begin()
        classes, label = numbered_labels(store, rows, self.name)
        scaler = StandardScaler().fit(pixels := self._pixels(store, rows))
        regression = LogisticRegression(
            C=self.config.strength, max_iter=self.config.iterations, class_weight="balanced"
        )
        regression.fit(scaler.transform(pixels), label[rows])
        weight, bias = regression.coef_, regression.intercept_
        if len(weight) == 1:  # of two classes there is one plane, positive for the second
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / scaler.scale_
        tensors = {"weight": weight, "bias": bias - weight @ scaler.mean_}
        save_tensors(folder / WEIGHTS, {name: torch.from_numpy(array) for name, array in tensors.items()})
        write_json(folder / MODEL, {"classes": classes})
        record.done()

    def predict(self, store: Store, rows: np.ndarray, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
        """Classes, and probabilities (len(rows), k) float32."""
        tensors = folders.load_tensors(folder / WEIGHTS)
        with as_written(folder / MODEL, "fit again"):
            classes = tuple(map(str, read_json(folder / MODEL)["classes"]))
        logits = torch.from_numpy(self._pixels(store, rows)) @ tensors["weight"].T + tensors["bias"]
        return classes, logits.softmax(1).float().numpy()

    def _pixels(self, store: Store, rows: np.ndarray) -> np.ndarray:
        """(len(rows), 3·side²) float64 in [0, 1]."""
        size, found = (self.config.side, self.config.side), []
        for start in range(0, len(rows), BATCH):
            for crop in store.read("crops", rows[start : start + BATCH]):
                found.append(cv2.resize(crop, size, interpolation=cv2.INTER_AREA).ravel() / 255)
        return np.stack(found)
