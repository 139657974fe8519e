"""A network that embeds crops: the detector's ResNet, averaged over the quarter turns of a cell. `simclr` trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellfeat.core.tensors import best_device
from cellfeat.detection.torchvision_engine.backbone import bottom_up, stages
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.store import Store

BGR_MEAN, BGR_SD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # the detector's PIXEL_MEAN and PIXEL_STD
TURNS = 4  # quarter turns that an embedding is averaged over
EMBED_BATCH = 64
PREFIX = "backbone.body."


class CellEncoder(nn.Module):
    """The detector's ResNet without its pyramid; its last two stages, averaged over the crop.

    Args:
        depth, width: See `bottom_up`.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.body = bottom_up(depth, "GN", width)
        self.register_buffer("mean", torch.tensor(BGR_MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("sd", torch.tensor(BGR_SD).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, S, S) RGB in [0, 1] to (n, d); d is 12 times the width for 18 and 34 layers."""
        normal = (images.flip(1) - self.mean) / self.sd
        return torch.cat([stage.mean((2, 3)) for stage in stages(self.body, normal)[-2:]], dim=1)

    def named_weights(self) -> dict[str, Tensor]:
        """The ResNet's parameters under Detectron2's names, `backbone.bottom_up.stem.conv1.weight` and so on."""
        return to_detectron2({PREFIX + name: value for name, value in self.body.state_dict().items()})

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take parameters that `named_weights` gave; those of half precision are widened."""
        renamed = to_torchvision(weights)
        self.body.load_state_dict({name.removeprefix(PREFIX): value.float() for name, value in renamed.items()})


def embed_crops(encoder: CellEncoder, store: Store, size: int, title: str, view: float = 1.0) -> np.ndarray:
    """Every cell of a store, averaged over four quarter turns of its crop.

    Args:
        encoder: The network.
        store: Its cells.
        size: Side in px that the crops are brought to.
        title: Of the progress bar.
        view: Share of the crop's side, around its centre, that is looked at.

    Returns:
        (len(store), d) float32.
    """
    side = store.layout.crop_size
    edge = round(side * (1 - view) / 2)
    device = best_device()
    encoder.eval().to(device)

    def embed(rows: np.ndarray) -> np.ndarray:
        images = to_images(store.read("crops", rows)[:, edge : side - edge, edge : side - edge]).to(device)
        if images.shape[-1] != size:
            images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        turns = [encoder(images.rot90(k, (2, 3))) for k in range(TURNS)]
        return torch.stack(turns).mean(0).cpu().numpy()

    with torch.inference_mode():
        return embed_batches(store, title, EMBED_BATCH, embed)


def to_images(crops: np.ndarray) -> Tensor:
    """Crops (n, S, S, 3) uint8 as (n, 3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255
