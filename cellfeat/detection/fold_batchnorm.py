"""Batch norms that are constants at inference, folded into the convolutions before them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def to_bf16_inference(model: nn.Module) -> None:
    """Make `model`, in evaluation mode, lighter for bf16 autocast; it cannot be trained after that.

    Batch norms are folded, and weights of convolutions and linear layers are held in bf16, not cast at every call.
    """
    fold_batchnorm(model)
    for layer in model.modules():
        if isinstance(layer, WEIGHTED):
            for parameter in layer.parameters(recurse=False):  # not those of a norm that Detectron2 keeps inside
                parameter.data = parameter.data.to(torch.bfloat16)


def fold_batchnorm(model: nn.Module) -> None:
    """Fold frozen or trained batch norms, each a pass through memory, into the convolutions that they follow."""
    for parent in list(model.modules()):
        if isinstance(parent, nn.Conv2d) and _is_batch_norm(getattr(parent, "norm", None)):  # Detectron2's Conv2d
            _fold(parent, parent.norm)
            parent.norm = None  # type: ignore[assignment]
        for (_, layer), (name, norm) in pairwise(list(parent.named_children())):  # torchvision: conv1, bn1, ...
            if isinstance(layer, nn.Conv2d) and _is_batch_norm(norm):
                _fold(layer, norm)
                setattr(parent, name, nn.Identity())


def _is_batch_norm(module: Any) -> bool:
    """BatchNorm2d, or one of the two FrozenBatchNorm2d, which share nothing but their attributes."""
    return isinstance(module, nn.Module) and hasattr(module, "running_var") and hasattr(module, "running_mean")


@torch.no_grad()
def _fold(layer: nn.Conv2d, norm: Any) -> None:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias * scale
    layer.weight = nn.Parameter(layer.weight * scale[:, None, None, None], requires_grad=False)
    layer.bias = nn.Parameter(shift, requires_grad=False)
