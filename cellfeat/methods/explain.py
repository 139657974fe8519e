"""Where a fitted classifier looks: Grad-CAM for convolutional networks, attention rollout for vision transformers.

Grad-CAM (Selvaraju et al., ICCV 2017) is pytorch-grad-cam's, the extra `explain`. Rollout follows Abnar & Zuidema,
"Quantifying attention flow in transformers", ACL 2020: the layers' ½(A + I), A averaged over heads, are multiplied; the
class token's row is the map.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from cellfeat.errors import CellfeatError
from cellfeat.files import atomic_path

if TYPE_CHECKING:
    from cellfeat.methods.crops import CropDataset
    from cellfeat.store import Store

log = logging.getLogger(__name__)


class Explainable(Protocol):
    """A prediction method whose network can be had: `mdd`, `resnext` and `finetune:<model>`."""

    name: Any

    def load(self, store: Store, folder: Path) -> tuple[nn.Module, tuple[str, ...], CropDataset]: ...


def explain(method: Explainable, store: Store, rows: np.ndarray, folder: Path, output: str | Path) -> Path:
    """Write one PNG a cell: the crop, and the crop under the map of what spoke for the class that was named.

    Args:
        method: Fitted in `folder`.
        rows: Cells, a few dozen at most.
        output: Folder of the pictures, named <row>_<label>_as_<named class>.png.

    Returns:
        `output`.
    """
    network, classes, dataset = method.load(store, folder)
    images = dataset[np.asarray(rows), 0].images.to(next(network.parameters()).device)
    with torch.inference_mode():
        named = network(images).argmax(1).tolist()
    maps = heat_maps(network, images)
    labels = store.table()["label"].to_numpy()[rows]
    output = Path(output)
    for row, crop, heat, label, k in zip(rows, store.read("crops", rows), maps, labels, named):
        picture = np.concatenate([crop, overlay(crop, heat)], axis=1)
        with atomic_path(output / f"{row:06d}_{label or 'unlabelled'}_as_{classes[k]}.png") as partial:
            encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
            partial.write_bytes(encoded.tobytes())
    log.info("%s: %d cells as %s sees them", output, len(rows), method.name)
    return output


def heat_maps(network: nn.Module, images: Tensor) -> np.ndarray:
    """Maps (n, h, w) float32 in [0, 1] of normalised images (n, 3, S, S): rollout if the network has attention."""
    if any(isinstance(layer, nn.MultiheadAttention) for layer in network.modules()):
        return attention_rollout(network, images)
    return grad_cam(network, images)


def grad_cam(network: nn.Module, images: Tensor) -> np.ndarray:
    """Maps (n, S, S) of the class that the network names, at its last convolution.

    Raises:
        CellfeatError: pytorch-grad-cam is not installed, or the network has no convolution.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise CellfeatError("explain: pytorch-grad-cam is not installed; pip install 'cellfeat[explain]'") from None
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        raise CellfeatError(f"explain: {type(network).__name__} has neither convolutions nor attention to look at")
    network.requires_grad_(True)
    with GradCAM(network, [convolutions[-1]]) as cam:
        return cam(images, targets=None)


def attention_rollout(network: nn.Module, images: Tensor) -> np.ndarray:
    """Maps (n, side, side), side² the number of patches, each stretched to [0, 1]."""
    attention: list[Tensor] = []

    def ask(_: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
        return arguments, keywords | {"need_weights": True, "average_attn_weights": True}

    def keep(_: nn.Module, __: tuple, result: tuple[Tensor, Tensor]) -> None:
        attention.append(result[1])

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.MultiheadAttention):
            hooks += [layer.register_forward_pre_hook(ask, with_kwargs=True), layer.register_forward_hook(keep)]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return rollout(attention)


def rollout(attention: list[Tensor]) -> np.ndarray:
    """Maps (n, side, side) of the layers' attention (n, 1 + side², 1 + side²), from the first layer to the last."""
    flow = torch.eye(attention[0].shape[1], device=attention[0].device)[None]
    for layer in attention:
        flow = (layer + torch.eye(layer.shape[1], device=layer.device)) / 2 @ flow
    patches = flow[:, 0, 1:]
    side = round(patches.shape[1] ** 0.5)
    low, high = patches.amin(1, keepdim=True), patches.amax(1, keepdim=True)
    stretched = (patches - low) / (high - low).clamp_min(1e-12)
    return stretched.unflatten(1, (side, side)).cpu().numpy()


def overlay(crop: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The crop (S, S, 3) uint8 RGB under a map (h, w) in [0, 1], from nothing to yellow: (S, S, 3) uint8."""
    resized = cv2.resize(heat.astype(np.float32), crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colour = cv2.applyColorMap((resized * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = 0.6 * resized[..., None]
    return (crop * (1 - weight) + colour * weight).round().astype(np.uint8)
