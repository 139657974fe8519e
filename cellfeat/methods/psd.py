"""Profiles of sparse codes: small patches of a crop, coded by a learned dictionary of kernels, pooled over the crop.

Follows WBC-Profiler (stacked predictive sparse decomposition of 20 × 20 RGB patches, 1,024 kernels; after Chang et al.,
"Stacked predictive sparse decomposition for classification of histology sections", IJCV 2015). The equation is in
`cellfeat.methods.sparse_coding`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from cellfeat.core.files import write_text
from cellfeat.core.lightning_trainer import check_finite
from cellfeat.core.progress import Progress
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.tensors import best_device, device_name, load_checkpoint, readable, save_checkpoint, save_tensors
from cellfeat.core.tracking import track
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.sparse_coding import Learner, PredictiveSparseDecomposition
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

log = logging.getLogger(__name__)

CELLS_PER_BATCH = 100  # crops that the patches of one iteration come from
CHECKPOINT_EVERY = 10  # iterations
EMBED_BATCH = 32  # crops at a time: 64 MB of codes


class PSDConfig(BaseModel):
    """Settings of `PSD`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernels: int = Field(1024, ge=2, description="Columns of the dictionary, of each layer; the size of the profile.")
    patch: int = Field(20, ge=2, description="Side of a patch, px.")
    step: int = Field(5, ge=1, description="Distance of neighbouring patches in a profile, px.")
    layers: Literal[1, 2] = Field(
        1, description="2 codes the first layer's codes once more, after the maximum over 2 × 2 neighbouring patches."
    )
    pooling: Literal["mean", "max"] = Field("mean", description="Of the last layer's codes over the crop.")
    iterations: int = Field(100, ge=1, description="Batches that each layer learns from.")
    patches: int = Field(2000, ge=2, description="Random patches (or places, in the second layer) in a batch.")
    sparsity: float = Field(
        0.3, gt=0, description="λ, the price of a code's ‖z‖₁; the mean squared length of a normalised patch is 1."
    )
    prediction: float = Field(
        0.1,
        ge=0,
        description=(
            "α, how much a code keeps to what the encoder predicts. While the encoder predicts little, α spreads a "
            "code over kernels that resemble each other: of 256 on real crops 23 % were in use at 1, 11 % at 0.1."
        ),
    )
    code_steps: int = Field(
        100,
        ge=1,
        description=(
            "Steps of FISTA. Without α, of 256 kernels on real crops 29 % were in use after 20 steps, 8 % after "
            "100 and after 400."
        ),
    )
    seed: int = Field(0, ge=0, description="Of the patches and the order of learning.")


@dataclass(frozen=True)
class PSD:
    """Dictionary of patches learned without labels; a cell is the mean (or maximum) of its patches' predicted codes."""

    config: PSDConfig
    Config: ClassVar[type[BaseModel]] = PSDConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "WBC-Profiler, predictive sparse decomposition of patches"
    name: ClassVar[str] = "psd"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Learn the layers one after the other; `folder` gets psd<layer>.safetensors and metrics<layer>.csv.

        Raises:
            CellfeatError: The crops are smaller than a patch, there are no rows, `folder` holds another run, or the
                objective of an iteration is no number; then its cells are named.
        """
        if len(rows) == 0:
            raise MissingRequirement(f"{self.name}: no cells to learn from", lacking="cells")
        places(store.layout.crop_size, self.config)
        record = folders.run_record(folder, self, store, ("checkpoint*.pt", "psd*.safetensors"), rows=rows)
        if not record.check():
            record.begin()
        layers: list[PredictiveSparseDecomposition] = []
        for number in range(1, self.config.layers + 1):
            if not _weights(folder, number).is_file():
                self._learn(store, np.asarray(rows), folder, number, layers)
            layers.append(_load(_weights(folder, number)).to(best_device()))
        record.done()

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """Profiles (len(store), kernels) float32."""
        device = best_device()
        layers = [_load(_weights(folder, number)).to(device) for number in range(1, self.config.layers + 1)]

        def profiles(rows: np.ndarray) -> np.ndarray:
            return profile(torch.from_numpy(store.read("crops", rows)).to(device), layers, self.config).cpu().numpy()

        with torch.inference_mode():
            return embed_batches(store, self.name, EMBED_BATCH, profiles)

    def pooled(self, store: Store, folder: Path, pooling: Literal["mean", "max"]) -> np.ndarray:
        """As `embed`, by a pooling of one's choice: what was learned does not depend on it."""
        return PSD(self.config.model_copy(update={"pooling": pooling})).embed(store, folder)

    def dictionary(self, folder: Path) -> np.ndarray:
        """(3·patch², kernels) of the first layer, channel by channel."""
        return _load(_weights(folder, 1)).dictionary.numpy()

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), S, S, 3) uint8 RGB: patches made of kernels by predicted codes, averaged where they overlap.

        Pixels at the right and lower edge that no patch covers are the patches' mean colour. First layer only.
        """
        layer = _load(_weights(folder, 1))
        crops = _scaled(torch.from_numpy(store.read("crops", rows)))
        with torch.inference_mode():
            vectors = functional.unfold(crops, self.config.patch, stride=self.config.step)
            drawn = layer.scale * (layer.dictionary @ _predict(layer, vectors)) + layer.mean[:, None]
            size = crops.shape[2:]
            total = functional.fold(drawn, size, self.config.patch, stride=self.config.step)
            covered = functional.fold(torch.ones_like(drawn), size, self.config.patch, stride=self.config.step)
            fill = layer.mean.unflatten(0, (3, -1)).mean(1)[None, :, None, None]
            pictures = torch.where(covered > 0, total / covered.clamp_min(1), fill)
        return (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def _learn(
        self, store: Store, rows: np.ndarray, folder: Path, number: int, below: list[PredictiveSparseDecomposition]
    ) -> None:
        config, device = self.config, best_device()
        draw = _batches(store, rows, config, below, number)
        vectors = draw(0)[0].to(device)
        psd = PredictiveSparseDecomposition(vectors.shape[1], config.kernels)
        psd.start(vectors.cpu(), torch.Generator().manual_seed(config.seed))
        learner = Learner(psd.to(device), config.sparsity, config.prediction, config.code_steps)
        history: list[dict[str, float]] = []
        checkpoint = folder / f"checkpoint{number}.pt"
        if checkpoint.exists():
            state = load_checkpoint(checkpoint)
            with readable(checkpoint):
                learner.load(state["learner"])
                history = [dict(line) for line in state["history"]]
        title, cell_id = f"{self.name} layer {number}", store.table()["cell_id"].to_numpy(str)
        log.info("%s: trains %d iterations on %s", title, config.iterations, device_name())
        bar = {"desc": title, "unit": "batch", "initial": len(history), "total": config.iterations}
        with Progress(**bar, announce=True) as progress:
            for iteration in range(len(history), config.iterations):
                order = torch.Generator().manual_seed(config.seed * config.iterations + iteration)
                vectors, cells = draw(iteration + 1)
                measured = learner.step(vectors.to(device), order)
                where = f"{title}, iteration {iteration}: the objective"
                check_finite(measured["objective"], where, "try another sparsity", cell_id[cells])
                history.append({"iteration": iteration} | measured)
                track(folder, iteration, {f"layer{number}/{name}": value for name, value in measured.items()})
                progress.set_postfix(error=f"{measured['error']:.4f}", nonzero=f"{measured['nonzero']:.1f}")
                progress.update()
                if len(history) % CHECKPOINT_EVERY == 0:
                    save_checkpoint(checkpoint, {"learner": learner.state(), "history": history})
        write_text(folder / f"metrics{number}.csv", csv_text(pd.DataFrame(history)))
        save_tensors(_weights(folder, number), psd.state_dict())
        checkpoint.unlink(missing_ok=True)
        log.info(
            "%s: %d kernels, error %.4f with %.1f coefficients a patch",
            title,
            config.kernels,
            history[-1]["error"],
            history[-1]["nonzero"],
        )


def places(crop_size: int, config: PSDConfig) -> int:
    """Patches along a side of a crop: 22 for 128 px, so 484 a crop.

    Raises:
        CellfeatError: No patch fits into the crop, or in the second layer no 2 × 2 patches do.
    """
    side = (crop_size - config.patch) // config.step + 1
    if side < config.layers:
        raise CellfeatError(
            f"psd: patches of {config.patch} px (patch) do not fit into the store's crops of {crop_size} px"
        )
    return side


def profile(crops: Tensor, layers: list[PredictiveSparseDecomposition], config: PSDConfig) -> Tensor:
    """Pooled codes (n, kernels) of crops (n, S, S, 3) uint8: one matrix product a crop and layer."""
    pooled = codes(crops, layers, config).flatten(2)
    return pooled.mean(2) if config.pooling == "mean" else pooled.amax(2)


def codes(crops: Tensor, layers: list[PredictiveSparseDecomposition], config: PSDConfig) -> Tensor:
    """Codes (n, kernels, places, places) that the last of the layers predicts."""
    vectors = functional.unfold(_scaled(crops), config.patch, stride=config.step)  # (n, 3·patch², places²)
    side = places(crops.shape[1], config)
    predicted = _predict(layers[0], vectors).unflatten(2, (side, side))
    for layer in layers[1:]:
        predicted = functional.max_pool2d(predicted, 2)
        predicted = _predict(layer, predicted.flatten(2)).unflatten(2, predicted.shape[2:])
    return predicted


def _predict(layer: PredictiveSparseDecomposition, vectors: Tensor) -> Tensor:
    """Codes (n, k, places) of vectors (n, d, places), not normalised."""
    weight, bias, gain = layer.folded()
    return gain[:, None] * torch.tanh(weight @ vectors + bias[:, None])


def _scaled(crops: Tensor) -> Tensor:
    return crops.permute(0, 3, 1, 2).float() / 255


def _batches(
    store: Store, rows: np.ndarray, config: PSDConfig, below: list[PredictiveSparseDecomposition], number: int
) -> Callable[[int], tuple[Tensor, np.ndarray]]:
    """A function from an iteration to its vectors (patches, d) and their cells' rows: the same whenever it is asked."""

    def draw(iteration: int) -> tuple[Tensor, np.ndarray]:
        rng = np.random.default_rng([config.seed, number, iteration])
        cells = np.sort(rng.choice(rows, min(CELLS_PER_BATCH, len(rows)), replace=False))
        crops = torch.from_numpy(store.read("crops", cells))
        if below:
            with torch.inference_mode():
                maps = [codes(part.to(best_device()), below, config).cpu() for part in crops.split(EMBED_BATCH)]
            grid = functional.max_pool2d(torch.cat(maps), 2)
            size = 1
        else:
            grid, size = _scaled(crops), config.patch
        cell = rng.integers(len(grid), size=config.patches)
        y, x = rng.integers(grid.shape[2] - size + 1, size=(2, config.patches))
        cut = [grid[c, :, i : i + size, j : j + size].flatten() for c, i, j in zip(cell, y, x)]
        return torch.stack(cut), cells

    return draw


def _weights(folder: Path, number: int) -> Path:
    return folder / f"psd{number}.safetensors"


def _load(path: Path) -> PredictiveSparseDecomposition:
    tensors = folders.load_tensors(path)
    psd = PredictiveSparseDecomposition(*tensors["dictionary"].shape)
    psd.load_state_dict(tensors)
    return psd.eval().requires_grad_(False)
