"""FPN on a bottom-up network of cellfeat's own, as Detectron2 puts it on a ResNet."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool


def with_fpn(bottom_up: Backbone, cfg: CfgNode) -> FPN:
    """The backbone that MODEL.FPN describes."""
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
