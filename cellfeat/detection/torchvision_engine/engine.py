"""The torchvision engine behind the `Detector` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from fvcore.common.config import CfgNode

from cellfeat.detection.checkpoint import load_weights
from cellfeat.detection.resize import network_size, resize_image
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.torchvision_engine.model import SIZE_DIVISIBILITY, MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.detection.torchvision_engine.paste import paste_masks
from cellfeat.errors import CellfeatError


class TorchvisionDetector:
    """Batched inference: RGB uint8 images in, `CellInstances` out.

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names the checkpoint. Without weights the network is random.
        pool: ROI features to keep: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC_DIM, 1, 1).
        precision: "fp32", which gives Detectron2's numbers, or "bf16" (autocast), which is faster.

    Raises:
        CellfeatError: A config key that this engine cannot honour, or a checkpoint that does not fit.
    """

    name = "torchvision"

    def __init__(self, cfg: CfgNode, pool: str = "mask", precision: str = "fp32") -> None:
        self.cfg, self.pool, self.precision = cfg, pool, precision
        self.device = resolve_device(cfg.MODEL.DEVICE)
        self.model = MaskRCNN(cfg)
        if cfg.MODEL.WEIGHTS:
            load_into(self.model, cfg.MODEL.WEIGHTS, cfg.MODEL.WEIGHTS_SHA256)
        # Convolutions in channels_last sum in another order: faster in bf16, no longer Detectron2's numbers in fp32.
        layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
        self.model.to(self.device).to(memory_format=layout).eval()

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        channels, model = self.cfg.MODEL.FPN.OUT_CHANNELS, self.cfg.MODEL
        sides = {"mask": model.ROI_MASK_HEAD.POOLER_RESOLUTION, "box": model.ROI_BOX_HEAD.POOLER_RESOLUTION}
        if self.pool == "box_head":
            return model.ROI_BOX_HEAD.FC_DIM, 1, 1
        return channels, sides[self.pool], sides[self.pool]

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
        scales = um_per_px or [None] * len(images)
        batch = [
            to_network(image, network_size(self.cfg, image.shape[:2], scale), self.cfg.INPUT.FORMAT)
            for image, scale in zip(images, scales, strict=True)
        ]
        found: list[CellInstances | None] = [None] * len(images)
        for group in _same_padding(batch):
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
        )


def _same_padding(batch: list[torch.Tensor]) -> list[list[int]]:
    """Indices grouped by padded size: padding to a larger neighbour would change a GroupNorm's statistics."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, image in enumerate(batch):
        height, width = image.shape[-2:]
        groups.setdefault((-(-height // SIZE_DIVISIBILITY), -(-width // SIZE_DIVISIBILITY)), []).append(i)
    return list(groups.values())


def to_network(image: np.ndarray, size: tuple[int, int], channel_order: str) -> torch.Tensor:
    """RGB uint8 (h, w, 3) → (3, *size) uint8 in the config's channel order (INPUT.FORMAT)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise CellfeatError(f"an image must be RGB uint8 (h, w, 3), not {image.dtype} {image.shape}")
    resized = resize_image(image, size)
    if channel_order == "BGR":
        resized = resized[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def load_into(model: MaskRCNN, weights: str, sha256: str = "") -> None:
    """Load a checkpoint with Detectron2's parameter names into `model`; errors as `load_weights`."""
    shapes = {name: tuple(value.shape) for name, value in to_detectron2(model.state_dict()).items()}
    state = load_weights(weights, shapes, sha256)
    model.load_state_dict(to_torchvision(state), strict=False)


def resolve_device(name: str) -> torch.device:
    """Detectron2's default device is `cuda`; where there is no GPU that means the CPU."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(name)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[None]:
    """bf16 autocast on `device`; bf16 has float32's range, so no loss scaling is needed."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
