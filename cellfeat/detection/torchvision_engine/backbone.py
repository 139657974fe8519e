"""ResNet with FPN as Detectron2 builds it, from torchvision's classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def norm_layer(name: str) -> Callable[[int], nn.Module] | None:
    """Detectron2's norm by its name: channels in, module out; None for "" (a convolution with bias and no norm)."""
    return {
        "": None,
        "FrozenBN": FrozenBatchNorm2d,
        "BN": nn.BatchNorm2d,
        "GN": lambda channels: nn.GroupNorm(32, channels),
    }[name]


class ResNetFPN(nn.Module):
    """ResNet and FPN: (N, 3, H, W), sides divisible by 32 → {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}.

    P6 is P5 at every second pixel; it feeds the proposals only.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        block, layers = BLOCKS[cfg.MODEL.RESNETS.DEPTH]
        self.body = ResNet(block, list(layers), norm_layer=norm_layer(cfg.MODEL.RESNETS.NORM))
        del self.body.fc
        if cfg.MODEL.RESNETS.STRIDE_IN_1X1:
            _stride_in_1x1(self.body)
        self.fpn = FeaturePyramidNetwork(
            [self.body.layer1[-1].conv1.in_channels * 2**i for i in range(4)],
            cfg.MODEL.FPN.OUT_CHANNELS,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=norm_layer(cfg.MODEL.FPN.NORM),
        )
        _freeze(self.body, cfg.MODEL.BACKBONE.FREEZE_AT)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        body = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
        stages = OrderedDict()
        for level, stage in enumerate((body.layer1, body.layer2, body.layer3, body.layer4), start=2):
            x = stage(x)
            stages[f"p{level}"] = x
        maps = self.fpn(stages)
        maps["p6"] = maps.pop("pool")
        return maps


def _stride_in_1x1(body: ResNet) -> None:
    """Move a bottleneck's stride from its 3×3 to its first 1×1 convolution, as in the original ResNet (MSRA)."""
    for block in body.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _freeze(body: ResNet, freeze_at: int) -> None:
    """Freeze the stem (freeze_at ≥ 1) and the stages res2 ... res5 up to `freeze_at`, batch norms as constants."""
    names = ["conv1", "bn1"] if freeze_at >= 1 else []
    names += [f"layer{stage - 1}" for stage in range(2, 6) if stage <= freeze_at]
    for name in names:
        setattr(body, name, _constant_norms(getattr(body, name)))
        for parameter in getattr(body, name).parameters():
            parameter.requires_grad_(False)


def _constant_norms(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.BatchNorm2d):
        return FrozenBatchNorm2d(module.num_features)
    for name, child in module.named_children():
        setattr(module, name, _constant_norms(child))
    return module
