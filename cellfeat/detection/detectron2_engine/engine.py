"""Detectron2 behind the `Detector` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode as Detectron2CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from fvcore.common.config import CfgNode
from torch import nn

from cellfeat.detection.checkpoint import load_weights
from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
from cellfeat.detection.device import autocast, resolve_device, to_inference
from cellfeat.detection.network_input import network_inputs, same_padding
from cellfeat.detection.structures import CellInstances, feature_shape


class Detectron2Detector:
    """Batched inference: RGB uint8 images in, `CellInstances` out.

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names the checkpoint. Without weights the network is random.
        pool: ROI features to keep: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC_DIM, 1, 1).
        precision: "fp32", or "bf16" (autocast), which is faster.
        model: A model of this config, such as one in training; it is put into evaluation mode.

    Raises:
        CellfeatError: A config key that is not supported, or a checkpoint that does not fit.
    """

    name = "detectron2"

    def __init__(
        self, cfg: CfgNode, pool: str = "mask", precision: str = "fp32", model: nn.Module | None = None
    ) -> None:
        self.cfg, self.pool, self.precision = cfg, pool, precision
        self.device = resolve_device(cfg.MODEL.DEVICE)
        self.model = model or new_model(to_detectron2_cfg(cfg, pool))
        to_inference(self.model, self.device, precision)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return feature_shape(self.cfg, self.pool)

    @property
    def max_detections(self) -> int:
        """Cells of an image at most; see `Detector`."""
        return self._box_predictor.test_topk_per_image

    @max_detections.setter
    def max_detections(self, count: int) -> None:
        self._box_predictor.test_topk_per_image = count

    @property
    def _box_predictor(self) -> Any:
        heads: Any = self.model.roi_heads
        return heads.box_predictor

    def detect(
        self, images: Sequence[np.ndarray], um_per_px: Sequence[float | None] | None = None
    ) -> list[CellInstances]:
        """Find the cells of each image.

        Args:
            images: RGB uint8 (h, w, 3) each; sizes may differ.
            um_per_px: Each image's physical scale, µm a pixel, where known; used when the config sets INPUT.UM_PER_PX.
        """
        inputs = network_inputs(self.cfg, images, um_per_px)
        with autocast(self.device, self.precision == "bf16"):
            return detect_with(self.model, inputs, [image.shape[:2] for image in images])


@torch.inference_mode()
def detect_with(
    model: nn.Module, inputs: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]
) -> list[CellInstances]:
    """Run a Detectron2 model in evaluation mode on `network_inputs`, of images whose original sizes are `sizes`."""
    found: dict[int, CellInstances] = {}
    for group in same_padding(inputs):
        batch = [{"image": inputs[i], "height": sizes[i][0], "width": sizes[i][1]} for i in group]
        for i, output in zip(group, model(batch), strict=True):
            found[i] = _to_cells(output["instances"], sizes[i])
    return [found[i] for i in range(len(inputs))]


def new_model(cfg: Detectron2CfgNode) -> nn.Module:
    """Detectron2's model of a config, with the weights that `MODEL.WEIGHTS` names; errors as `load_weights`."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = str(resolve_device(cfg.MODEL.DEVICE))
    model = build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        state = load_weights(cfg.MODEL.WEIGHTS, shapes, cfg.MODEL.WEIGHTS_SHA256, cfg.MODEL.NEW_HEADS)
        model.load_state_dict(state, strict=False)
    return model


def _to_cells(instances: Instances, size: tuple[int, int]) -> CellInstances:
    masks = instances.pred_masks if instances.has("pred_masks") else torch.zeros(0, *size, dtype=torch.bool)
    return CellInstances(
        image_size=size,
        boxes=instances.pred_boxes.tensor.cpu().numpy(),
        scores=instances.scores.float().cpu().numpy(),
        masks=masks.cpu().numpy(),
        roi_features=instances.roi_features.cpu().numpy(),
        classes=instances.pred_classes.cpu().numpy(),
    )
