"""`cellfeat convert-weights`: detector weights of any origin in, Detectron2's parameter names out."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from cellfeat.core.tensors import save_checkpoint, save_tensors
from cellfeat.detection.checkpoint import (
    State,
    backbone_names,
    is_backbone,
    read_state,
    resolve_weights,
)
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.errors import CellfeatError

# torchvision's networks see RGB in 0 to 1, normalised, and stride in the 3×3 convolution: what a config must then say.
TORCHVISION_INPUT = (
    "these weights were made by torchvision: the config needs INPUT.FORMAT RGB, MODEL.PIXEL_MEAN "
    "[123.675,116.28,103.53], MODEL.PIXEL_STD [58.395,57.12,57.375] and MODEL.RESNETS.STRIDE_IN_1X1 False"
)
TORCHVISION_DETECTOR = f"{TORCHVISION_INPUT}; train on, torchvision pools half a pixel off"

# torchvision's names before its version 0.14, and those since.
RENAMED = (
    (r"(_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda match: f"roi_heads.mask_head.{int(match[1]) - 1}.0."),
)


def convert_weights(source: str, target: Path, half: bool = False) -> str:
    """Rewrite a checkpoint with Detectron2's parameter names.

    Args:
        source: A Detectron2 or cellfeat checkpoint, a model-zoo pickle (ImageNet or COCO), or the state dict of a
            torchvision ResNet or Mask R-CNN, as .pth, .pt, .pkl or .safetensors; a path or detectron2:// name.
        target: `.pth` (parameters under "model", as Detectron2 writes them) or `.safetensors`.
        half: In half precision, which takes half of the space; every reader widens it again.

    Returns:
        What the user must know about the result: how many parameters, and which config they need.

    Raises:
        CellfeatError: A file that cannot be read as arrays, holds no detector, or a target of another format.
    """
    if target.suffix not in (".pth", ".safetensors"):
        raise CellfeatError(f"{target}: weights are written as .pth or .safetensors")
    path = resolve_weights(source)
    state, note = named_by_detectron2(read_state(path), str(path))
    state = {name: (value.half() if half and value.is_floating_point() else value) for name, value in state.items()}
    state = {name: value.contiguous() for name, value in state.items()}
    if target.suffix == ".pth":
        save_checkpoint(target, {"model": state})
    else:
        save_tensors(target, state)
    return f"{target}: {len(state)} parameters{f'; {note}' if note else ''}"


def named_by_detectron2(state: State, source: str) -> tuple[State, str]:
    """A state dict under Detectron2's names, and what its config must say (empty: nothing particular)."""
    if any(name.startswith(("backbone.body.", "roi_heads.box_head.fc6")) for name in state):
        return _torchvision_detector(state), TORCHVISION_DETECTOR
    if any(re.match(r"layer\d\.", name) for name in state):
        body = {f"backbone.body.{name}": value for name, value in state.items() if not name.startswith("fc.")}
        return to_detectron2(body), TORCHVISION_INPUT
    if is_backbone(state):
        state = {f"backbone.bottom_up.{name}": value for name, value in backbone_names(state).items()}
    if not any(name.startswith("backbone.") for name in state):
        raise CellfeatError(f"{source}: no names of a detector or its backbone ({', '.join(list(state)[:3])}, ...)")
    return state, ""


def _torchvision_detector(state: State) -> State:
    """torchvision has background as class 0, with a box and a mask; Detectron2 has it last, with neither."""
    renamed: State = {}
    for name, value in state.items():
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        if name.startswith("roi_heads.box_predictor.cls_score."):
            value = torch.cat([value[1:], value[:1]])
        elif name.startswith("roi_heads.box_predictor.bbox_pred."):
            value = value[4:]
        elif name.startswith("roi_heads.mask_predictor.mask_fcn_logits."):
            value = value[1:]
        renamed[name] = value
    return to_detectron2(renamed)
