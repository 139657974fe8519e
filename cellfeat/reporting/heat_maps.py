"""Where a fitted classifier looks: Grad-CAM for convolutional networks, attention rollout for vision transformers.

Grad-CAM (Selvaraju et al., ICCV 2017) is pytorch-grad-cam's, the extra `explain`. Rollout follows Abnar & Zuidema,
"Quantifying attention flow in transformers", ACL 2020: the layers' ½(A + I), A averaged over heads, are multiplied; the
class token's row is the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    from cellfeat.methods.crops import CropDataset

BATCH = 8  # cells at a time: 1 GB of VGG-16's maps and their gradients


def heat_maps(network: nn.Module, images: Tensor) -> np.ndarray:
    """Maps (n, h, w) float32 in [0, 1] of normalised images (n, 3, S, S): rollout if the network has attention."""
    if any(isinstance(layer, nn.MultiheadAttention) for layer in network.modules()):
        return attention_rollout(network, images)
    return grad_cam(network, images)


def look(network: nn.Module, dataset: CropDataset, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a fitted network calls cells, and where it looks.

    Args:
        network: In evaluation mode, see `load` of the methods that have it.
        dataset: The cells as it sees them.
        rows: (n,) their rows.

    Returns:
        Probabilities (n, k) float32, and of each cell its map (h, w) float32 in [0, 1].
    """
    device = next(network.parameters()).device
    probabilities, maps = [], []
    for start in range(0, len(rows), BATCH):
        images = dataset[rows[start : start + BATCH], 0].images.to(device)
        with torch.inference_mode():
            probabilities.append(network(images).softmax(1).cpu().numpy())
        maps += list(heat_maps(network, images))
    return np.concatenate(probabilities), maps


def grad_cam(network: nn.Module, images: Tensor) -> np.ndarray:
    """Maps (n, S, S) of the class that the network names, at its last layer that keeps positions.

    In a residual network that is the sum of the last block, not its last convolution, which is one summand.

    Raises:
        CellfeatError: pytorch-grad-cam is not installed, or the network has no convolution.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        raise CellfeatError("explain: pytorch-grad-cam is not installed; pip install 'cellfeat[explain]'") from None
    if not any(isinstance(layer, nn.Conv2d) for layer in network.modules()):
        raise CellfeatError(f"explain: {type(network).__name__} has neither convolutions nor attention to look at")
    network.requires_grad_(True)
    with GradCAM(network, [_last_with_positions(network, images[:1])]) as cam:
        return cam(images, targets=None)


def _last_with_positions(network: nn.Module, image: Tensor) -> nn.Module:
    """The layer that ends last of those that give maps (1, c, h, w) of more than one position."""
    ended: list[nn.Module] = []

    def look(layer: nn.Module, _: tuple, result: object) -> None:
        if isinstance(result, Tensor) and result.ndim == 4 and result.shape[2:].numel() > 1:
            ended.append(layer)

    hooks = [layer.register_forward_hook(look) for layer in network.modules()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return ended[-1]


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
