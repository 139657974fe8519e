"""VGG-16 with FPN as a backbone of Detectron2, which has none."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone

from cellfeat.detection.detectron2_engine.fpn import with_fpn
from cellfeat.detection.vgg import CHANNELS, VGG16


class VGG16Backbone(VGG16, Backbone):
    """See `VGG16`."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map."""
        return {name: ShapeSpec(channels=CHANNELS[name], stride=4 << k) for k, name in enumerate(CHANNELS)}


@BACKBONE_REGISTRY.register()
def build_vgg16_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """What MODEL.BACKBONE.NAME build_vgg16_fpn_backbone makes."""
    return with_fpn(VGG16Backbone(cfg.MODEL.BACKBONE.FREEZE_AT), cfg)
