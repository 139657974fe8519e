"""ResNet-18 and 34 narrower than Detectron2 builds them, with FPN, as a backbone of Detectron2."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet

from cellfeat.detection.detectron2_engine.fpn import with_fpn
from cellfeat.detection.torchvision_engine.backbone import BLOCKS, norm_layer


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """What MODEL.BACKBONE.NAME build_narrow_resnet_fpn_backbone makes; RES2_OUT_CHANNELS is the stem's width too."""
    resnet = cfg.MODEL.RESNETS
    width, norm = resnet.RES2_OUT_CHANNELS, norm_layer(resnet.NORM)
    stages, channels = [], width
    for k, blocks in enumerate(BLOCKS[resnet.DEPTH][1]):
        strides = [1 if k == 0 else 2] + [1] * (blocks - 1)
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                blocks,
                in_channels=channels,
                out_channels=width * 2**k,
                stride_per_block=strides,
                norm=norm,
            )
        )
        channels = width * 2**k
    stem = BasicStem(input_shape.channels, width, norm)
    bottom_up = ResNet(stem, stages, out_features=resnet.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
    return with_fpn(bottom_up, cfg)
