"""The convolutions of VGG-16 as a detector's bottom-up network, for both engines."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

BACKBONE = "build_vgg16_fpn_backbone"  # MODEL.BACKBONE.NAME
STAGES = {"res2": (0, 16), "res3": (16, 23), "res4": (23, 30), "res5": (30, 31)}
"""By the names that ResNet's maps of the same strides (4, 8, 16, 32) have: the layers up to the map's last, and after
it; they are conv3_3, conv4_3, conv5_3 and the last pooling."""
CHANNELS = {"res2": 256, "res3": 512, "res4": 512, "res5": 512}
BLOCKS = (5, 10, 17, 24, 31)  # layers before the end of each of the five blocks


class VGG16(nn.Module):
    """(N, 3, H, W), sides divisible by 32 → {"res2": (N, 256, H/4, W/4), ..., "res5": (N, 512, H/32, W/32)}.

    Parameters have torchvision's names, features.0.weight and so on. The first `freeze_at` of the five blocks are not
    trained; Faster R-CNN's own code freezes two.
    """

    def __init__(self, freeze_at: int = 0) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.features[: BLOCKS[freeze_at - 1] if freeze_at else 0].requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = {}
        for name, (start, stop) in STAGES.items():
            for layer in self.features[start:stop]:
                x = layer(x)
            maps[name] = x
        return maps
