"""Parameter names: Detectron2's on disk, torchvision's in this engine's modules; one table serves both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

# (Detectron2's pattern, torchvision's pattern). A letter in braces is a number (s stage, b block,
# c convolution, k level, n layer of VGG-16); torchvision counts lower by the constant beside it.
TABLE = (
    ("backbone.bottom_up.stem.conv1.norm.", "backbone.body.bn1."),
    ("backbone.bottom_up.stem.conv1.", "backbone.body.conv1."),
    ("backbone.bottom_up.res{s}.{b}.conv{c}.norm.", "backbone.body.layer{s-1}.{b}.bn{c}."),
    ("backbone.bottom_up.res{s}.{b}.conv{c}.", "backbone.body.layer{s-1}.{b}.conv{c}."),
    ("backbone.bottom_up.res{s}.{b}.shortcut.norm.", "backbone.body.layer{s-1}.{b}.downsample.1."),
    ("backbone.bottom_up.res{s}.{b}.shortcut.", "backbone.body.layer{s-1}.{b}.downsample.0."),
    ("backbone.bottom_up.features.{n}.", "backbone.body.features.{n}."),
    ("backbone.fpn_lateral{k}.norm.", "backbone.fpn.inner_blocks.{k-2}.1."),
    ("backbone.fpn_lateral{k}.", "backbone.fpn.inner_blocks.{k-2}.0."),
    ("backbone.fpn_output{k}.norm.", "backbone.fpn.layer_blocks.{k-2}.1."),
    ("backbone.fpn_output{k}.", "backbone.fpn.layer_blocks.{k-2}.0."),
    ("proposal_generator.rpn_head.conv.", "rpn.head.conv.0.0."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
    ("roi_heads.box_head.fc1.", "roi_heads.box_head.fc6."),
    ("roi_heads.box_head.fc2.", "roi_heads.box_head.fc7."),
    ("roi_heads.box_predictor.", "roi_heads.box_predictor."),
    ("roi_heads.mask_head.mask_fcn{k}.norm.", "roi_heads.mask_head.{k-1}.1."),
    ("roi_heads.mask_head.mask_fcn{k}.", "roi_heads.mask_head.{k-1}.0."),
    ("roi_heads.mask_head.deconv.", "roi_heads.mask_predictor.conv5_mask."),
    ("roi_heads.mask_head.predictor.", "roi_heads.mask_predictor.mask_fcn_logits."),
)

_FIELD = re.compile(r"\{(\w)(?:-(\d+))?\}")


def to_torchvision(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename a mapping from Detectron2's parameter names to torchvision's; names in no pattern stay as they are."""
    return {_rename(name, forward=True): value for name, value in state.items()}


def to_detectron2(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename a mapping from torchvision's parameter names to Detectron2's; names in no pattern stay as they are."""
    return {_rename(name, forward=False): value for name, value in state.items()}


def _rename(name: str, forward: bool) -> str:
    for detectron2, torchvision in TABLE:
        source, target = (detectron2, torchvision) if forward else (torchvision, detectron2)
        match = re.match(_FIELD.sub(r"(?P<\1>\\d+)", source.replace(".", r"\.")), name)
        if match:
            shifts = {field: int(shift or 0) for field, shift in _FIELD.findall(torchvision)}
            sign = -1 if forward else 1
            numbers = {field: int(value) + sign * shifts[field] for field, value in match.groupdict().items()}
            return _FIELD.sub(r"{\1}", target).format_map(numbers) + name[match.end() :]
    return name
