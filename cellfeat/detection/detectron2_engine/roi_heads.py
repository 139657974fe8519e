"""The feature tap: ROI heads that leave the pooled features of the final boxes on the predicted Instances."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from cellfeat.detection.detector import POOLS
from cellfeat.detection.roi_align import roi_align
from cellfeat.errors import CellfeatError


@ROI_HEADS_REGISTRY.register()
class CellROIHeads(StandardROIHeads):
    """Detectron2's standard heads; in inference each Instances also carries `roi_features`. Training is untouched.

    The features are pooled at the final boxes, in the network's frame, before `detector_postprocess` rescales boxes in
    place and drops empty ones. As a field of the Instances they share the fate of their box through every selection.

    Args:
        pool: "mask": what the mask head's pooler gives, (R, C, 14, 14), pooled once for both; "box": the box head's
            pooler at the final boxes, (R, C, 7, 7); "box_head": the box head's vector of that, (R, FC_DIM, 1, 1).
        mask_pooler: As in StandardROIHeads; here also without a mask head.
        kwargs: As in StandardROIHeads.
    """

    @configurable
    def __init__(self, *, pool: str, mask_pooler: ROIPooler, **kwargs: Any) -> None:
        super().__init__(mask_pooler=mask_pooler, **kwargs)
        if pool not in POOLS:
            raise CellfeatError(f"MODEL.ROI_HEADS.POOL: {pool!r}; choose from {', '.join(POOLS)}")
        self.pool, self.mask_pooler = pool, mask_pooler
        for pooler in (self.box_pooler, self.mask_pooler):
            pooler.level_poolers = nn.ModuleList(_fast(level) for level in pooler.level_poolers)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        arguments = super().from_config(cfg, input_shape)
        mask, levels = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS.IN_FEATURES
        arguments["pool"] = cfg.MODEL.ROI_HEADS.POOL
        arguments["mask_pooler"] = ROIPooler(
            output_size=mask.POOLER_RESOLUTION,
            scales=tuple(1.0 / input_shape[level].stride for level in levels),
            sampling_ratio=mask.POOLER_SAMPLING_RATIO,
            pooler_type=mask.POOLER_TYPE,
        )
        return arguments

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """As StandardROIHeads.forward; under autocast, inference pools in float32 (ROIAlign would round its boxes)."""
        if not self.training:
            features = {level: feature.float() for level, feature in features.items()}
        return super().forward(images, features, proposals, targets)

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Masks and `roi_features` of the boxes in `instances` (their `pred_boxes`, px of the network's input)."""
        levels = [features[level] for level in self.in_features]
        boxes = [each.pred_boxes for each in instances]
        pooled = kept = self.mask_pooler(levels, boxes)
        if self.pool != "mask":
            kept = self.box_pooler(levels, boxes)
            if self.pool == "box_head":
                kept = self.box_head(kept)[:, :, None, None]
        if self.mask_on:
            instances = self.mask_head(pooled, instances)
        for each, part in zip(instances, kept.float().split([len(b) for b in boxes]), strict=True):
            each.roi_features = part
        return instances


class CellROIAlign(ROIAlign):
    """Detectron2's ROIAlign by `cellfeat.detection.roi_align`: in inference on a CPU the same numbers in less time."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().forward(input, rois)
        return roi_align(input, rois, self.output_size[0], self.spatial_scale, self.sampling_ratio)


def _fast(pooler: Any) -> nn.Module:
    if type(pooler) is not ROIAlign or not pooler.aligned or pooler.output_size[0] != pooler.output_size[1]:
        return pooler
    return CellROIAlign(pooler.output_size, pooler.spatial_scale, pooler.sampling_ratio)
