"""ResNet or VGG-16 with FPN as Detectron2 builds it, from torchvision's classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from cellfeat.detection.network_input import GROUPS
from cellfeat.detection.vgg import BACKBONE, CHANNELS, VGG16

NARROW = "build_narrow_resnet_fpn_backbone"  # MODEL.BACKBONE.NAME; Detectron2 builds ResNet-18 and 34 at one width
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
        "GN": lambda channels: nn.GroupNorm(min(GROUPS, channels), channels),  # narrower than Detectron2 builds them
    }[name]


def bottom_up(depth: int, norm: str, width: int = 64) -> ResNet:
    """A ResNet without its head, (N, 3, H, W) to four stages; parameters have torchvision's names.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: See `norm_layer`.
        width: Channels of the stem and of the first stage's 3×3 convolutions; each later stage has twice as many.
    """
    block, layers = BLOCKS[depth]
    body = ResNet(block, list(layers), norm_layer=norm_layer(norm))
    del body.fc
    if width != 64:
        _narrow(body, block, layers, width)
    return body


def stages(body: ResNet, x: Tensor) -> list[Tensor]:
    """The outputs of the four stages, finest first: (N, 3, H, W) → (N, C, H/4, W/4) ... (N, 8·C, H/32, W/32)."""
    x = body.maxpool(body.relu(body.bn1(body.conv1(x))))
    outputs = []
    for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
        x = stage(x)
        outputs.append(x)
    return outputs


class ResNetFPN(nn.Module):
    """ResNet and FPN: (N, 3, H, W), sides divisible by 32 → {"p2": (N, C, H/4, W/4), ..., "p6": (N, C, H/64, W/64)}.

    P6 is P5 at every second pixel; it feeds the proposals only.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        resnet = cfg.MODEL.RESNETS
        width = resnet.RES2_OUT_CHANNELS if resnet.DEPTH < 50 else 64
        self.body = bottom_up(resnet.DEPTH, resnet.NORM, width)
        if resnet.STRIDE_IN_1X1:
            _stride_in_1x1(self.body)
        self.fpn = FeaturePyramidNetwork(
            [self.body.layer1[-1].conv1.in_channels * 2**i for i in range(4)],
            cfg.MODEL.FPN.OUT_CHANNELS,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=norm_layer(cfg.MODEL.FPN.NORM),
        )
        _freeze(self.body, cfg.MODEL.BACKBONE.FREEZE_AT)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.fpn(OrderedDict((f"p{level}", stage) for level, stage in enumerate(stages(self.body, x), start=2)))
        maps["p6"] = maps.pop("pool")
        return maps


def _narrow(body: ResNet, block: type[BasicBlock | Bottleneck], layers: tuple[int, ...], width: int) -> None:
    """Make the stem and the stages again at another width, with torchvision's first weights."""
    body.inplanes = width
    body.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    body.bn1 = body._norm_layer(width)
    for k, blocks in enumerate(layers):
        stage = body._make_layer(block, width * 2**k, blocks, stride=1 if k == 0 else 2)
        setattr(body, f"layer{k + 1}", stage)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class VGGFPN(nn.Module):
    """VGG-16 and FPN; as `ResNetFPN`."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.body = VGG16(cfg.MODEL.BACKBONE.FREEZE_AT)
        self.fpn = FeaturePyramidNetwork(
            list(CHANNELS.values()),
            cfg.MODEL.FPN.OUT_CHANNELS,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=norm_layer(cfg.MODEL.FPN.NORM),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.fpn(OrderedDict((f"p{k}", stage) for k, stage in enumerate(self.body(x).values(), start=2)))
        maps["p6"] = maps.pop("pool")
        return maps


def build_backbone(cfg: CfgNode) -> ResNetFPN | VGGFPN:
    """The network that MODEL.BACKBONE.NAME names."""
    return VGGFPN(cfg) if cfg.MODEL.BACKBONE.NAME == BACKBONE else ResNetFPN(cfg)


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
