"""The torchvision engine behind the `Detector` protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode

from cellfeat.detection.checkpoint import load_weights
from cellfeat.detection.device import autocast, resolve_device, to_inference
from cellfeat.detection.network_input import network_inputs, same_padding
from cellfeat.detection.structures import CellInstances, feature_shape
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.detection.torchvision_engine.paste_masks import paste_masks


class TorchvisionDetector:
    """Batched inference: RGB uint8 images in, `CellInstances` out.

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names the checkpoint. Without weights the network is random.
        pool: ROI features to keep: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC_DIM, 1, 1).
        precision: "fp32", which gives Detectron2's numbers, or "bf16" (autocast), which is faster.

    Raises:
        CellfeatError: A config key that this engine does not support, or a checkpoint that does not fit.
    """

    name = "torchvision"

    def __init__(self, cfg: CfgNode, pool: str = "mask", precision: str = "fp32") -> None:
        self.cfg, self.pool, self.precision = cfg, pool, precision
        self.device = resolve_device(cfg.MODEL.DEVICE)
        self.model = MaskRCNN(cfg)
        if cfg.MODEL.WEIGHTS:
            load_into(self.model, cfg)
        to_inference(self.model, self.device, precision)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return feature_shape(self.cfg, self.pool)

    @property
    def max_detections(self) -> int:
        """Cells of an image at most; see `Detector`."""
        return self.model.roi_heads.detections_per_img

    @max_detections.setter
    def max_detections(self, count: int) -> None:
        self.model.roi_heads.detections_per_img = count

    @torch.inference_mode()
    def detect(
        self, images: Sequence[np.ndarray], um_per_px: Sequence[float | None] | None = None
    ) -> list[CellInstances]:
        """Find the cells of each image.

        Args:
            images: RGB uint8 (h, w, 3) each; sizes may differ.
            um_per_px: Each image's physical scale, µm a pixel, where known; used when the config sets INPUT.UM_PER_PX.
        """
        if not images:
            return []
        batch = network_inputs(self.cfg, images, um_per_px)
        found: list[CellInstances | None] = [None] * len(images)
        for group in same_padding(batch):
            with autocast(self.device, self.precision == "bf16"):
                detections = self.model([batch[i] for i in group], pool=self.pool)
            for i, detection in zip(group, detections, strict=True):
                found[i] = self._to_original(detection, batch[i].shape[-2:], images[i].shape[:2])
        return [cells for cells in found if cells is not None]

    def _to_original(
        self, detection: dict[str, torch.Tensor], network: Sequence[int], original: tuple[int, int]
    ) -> CellInstances:
        (height, width), boxes = original, detection["boxes"]
        scale = boxes.new_tensor([width / network[1], height / network[0]] * 2)
        limit = boxes.new_tensor([width, height] * 2)
        boxes = (boxes * scale).clamp(min=0).minimum(limit)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # the features go with their box, or neither
        boxes = boxes[keep]
        if "mask_probs" in detection:
            masks = paste_masks(detection["mask_probs"][keep], boxes, original)
        else:
            masks = torch.zeros(0, height, width, dtype=torch.bool)
        return CellInstances(
            image_size=(height, width),
            boxes=boxes.cpu().numpy(),
            scores=detection["scores"][keep].cpu().numpy(),
            masks=masks.cpu().numpy(),
            roi_features=detection["roi_features"][keep].float().cpu().numpy(),
            classes=detection["labels"][keep].cpu().numpy(),
        )


def load_into(model: MaskRCNN, cfg: CfgNode) -> None:
    """Load `MODEL.WEIGHTS`, which has Detectron2's parameter names, into `model`; errors as `load_weights`."""
    shapes = {name: tuple(value.shape) for name, value in to_detectron2(model.state_dict()).items()}
    state = load_weights(cfg.MODEL.WEIGHTS, shapes, cfg.MODEL.WEIGHTS_SHA256, cfg.MODEL.NEW_HEADS)
    model.load_state_dict(to_torchvision(state), strict=False)
