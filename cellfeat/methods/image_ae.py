"""An autoencoder of the crops themselves: what the detector's features add is the difference to AE-CFE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import lightning
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cellfeat.autoencoder.losses import ssim
from cellfeat.autoencoder.network import IMAGE_SIZE, Autoencoder
from cellfeat.core.lightning_trainer import check_loss, fit
from cellfeat.core.tensors import best_device, save_tensors
from cellfeat.errors import MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.crops import CropBatch, CropDataset, CropSampler, Normalisation, loader, unknown_labels
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

EMBED_BATCH = 64
WEIGHTS = "weights.safetensors"


class ImageAutoencoder(Autoencoder):
    """AE-CFE's network with a stem, the image decoder's mirror, that makes 256 maps of 14 × 14 from a crop.

    Everything behind the stem, and so the depth of the decoder, is AE-CFE's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_block(3, 128, kernel=2, groups=16),  # 128 -> 127 px
            *_block(128, 150, kernel=3, groups=30, stride=2),  # 63
            *_block(150, 180, kernel=3, groups=20, stride=2),  # 31
            *_block(180, 256, kernel=5, groups=32, stride=2),  # 14
        )

    def encode(self, h: Tensor) -> Tensor:
        """Embed crops h (n, 3, 128, 128) in [-1, 1]: z (n, 50) in [-1, 1]."""
        return super().encode(self.stem(h))


def _block(channels_in: int, channels_out: int, kernel: int, groups: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=kernel, stride=stride)
    return [convolution, nn.ReLU(), nn.GroupNorm(groups, channels_out)]


class ImageAEConfig(BaseModel):
    """Settings of `ImageAE`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(150, ge=1, description="Passes over the training cells.")
    batch_size: int = Field(32, ge=1, description="Cells a step.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
    precision: str = Field("fp32", pattern="^(fp32|bf16)$", description="'bf16' computes convolutions in bfloat16.")
    seed: int = Field(0, ge=0, description="Of the first weights and the order of the cells.")


@dataclass(frozen=True)
class ImageAE:
    """Crop to 50 numbers and back, trained on 1 − SSIM without labels; no alignment of domains."""

    config: ImageAEConfig
    Config: ClassVar[type[BaseModel]] = ImageAEConfig
    kind: ClassVar[Kind] = "embedding"
    title: ClassVar[str] = "Autoencoder of the crops alone"
    name: ClassVar[str] = "image-ae"
    needs: ClassVar[frozenset[str]] = frozenset()

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Train on the crops of `rows`; `folder` gets weights.safetensors.

        Raises:
            CellfeatError: The crops are not 128 px, there are no rows, or `folder` holds another run.
        """
        if store.layout.crop_size != IMAGE_SIZE or len(rows) == 0:
            raise MissingRequirement(
                f"{self.name}: needs cells with crops of {IMAGE_SIZE} px; there are {len(rows)} "
                f"with {store.layout.crop_size} px"
            )
        record = folders.run_record(folder, self, store, rows=rows)
        if record.check() and (folder / WEIGHTS).is_file():
            return
        record.begin()
        module = _Module(_dataset(store), rows, self.config)
        fit(
            module,
            folder / "checkpoints",
            title=self.name,
            epochs=self.config.epochs,
            cells=len(rows),
            precision=self.config.precision,
        )
        save_tensors(folder / WEIGHTS, module.network.state_dict())
        record.done()

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """Latents (len(store), 50) float32."""
        network, device = _load(folder)
        dataset = _dataset(store)

        def latents(rows: np.ndarray) -> np.ndarray:
            return network.encode(dataset[rows, 0].images.to(device)).cpu().numpy()

        with torch.inference_mode():
            return embed_batches(store, self.name, EMBED_BATCH, latents)

    def reconstruct(self, store: Store, rows: np.ndarray, folder: Path) -> np.ndarray:
        """(len(rows), 128, 128, 3) uint8 RGB."""
        network, device = _load(folder)
        with torch.inference_mode():
            z = network.encode(_dataset(store)[np.asarray(rows), 0].images.to(device))
            images = network.decode_images(network.decode_features(z)).permute(0, 2, 3, 1)
        return (images * 255).round().byte().cpu().numpy()


def _load(folder: Path) -> tuple[ImageAutoencoder, torch.device]:
    device = best_device()
    network = ImageAutoencoder()
    network.load_state_dict(folders.load_tensors(folder / WEIGHTS))
    return network.eval().to(device), device


def _dataset(store: Store) -> CropDataset:
    """Crops in [-1, 1], as AE-CFE's features are."""
    normalisation = Normalisation.fixed(store, mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5))
    return CropDataset(store, unknown_labels(store), normalisation)


class _Module(lightning.LightningModule):
    def __init__(self, dataset: CropDataset, rows: np.ndarray, config: ImageAEConfig) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = ImageAutoencoder()
        self._dataset, self._rows, self._config = dataset, rows, config

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self._config.lr)

    def train_dataloader(self) -> DataLoader:
        sampler = CropSampler(self._rows, self._config.batch_size, self._config.seed)
        return loader(self._dataset, sampler, 4 if self.device.type == "cuda" else 0)

    def training_step(self, batch: CropBatch, _: int) -> Tensor:
        image_hat = self.network.decode_images(self.network.decode_features(self.network.encode(batch.images)))
        loss = 1 - ssim(image_hat, (batch.images + 1) / 2)
        check_loss(loss, self, self._dataset.cell_id, batch.rows)
        return loss
