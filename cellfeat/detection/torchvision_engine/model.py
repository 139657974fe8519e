"""Mask R-CNN from a Detectron2 config."""

from __future__ import annotations

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from cellfeat.detection.network_input import SIZE_DIVISIBILITY
from cellfeat.detection.supported_keys import check_supported
from cellfeat.detection.torchvision_engine.backbone import build_backbone
from cellfeat.detection.torchvision_engine.roi_heads import ROIHeads
from cellfeat.detection.torchvision_engine.rpn import RPN


class MaskRCNN(nn.Module):
    """Detectron2's GeneralizedRCNN with ResNet-FPN or VGG-FPN, RPN, box and mask heads."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, cfg: CfgNode) -> None:
        check_supported(cfg)
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.rpn = RPN(cfg)
        self.roi_heads = ROIHeads(cfg)
        for name, values in (("pixel_mean", cfg.MODEL.PIXEL_MEAN), ("pixel_std", cfg.MODEL.PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        _initialise(self)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None, pool: str = "mask"):  # type: ignore[no-untyped-def]
        """Losses by name in training, else detections as `ROIHeads.forward` gives them.

        Args:
            images: (3, h, w) in the config's channel order, 0 to 255, resized already; sizes may differ.
            targets: In training, see `ROIHeads.forward`; boxes and masks in the frame of `images`.
            pool: Which ROI features to keep: "mask", "box" or "box_head".
        """
        batch = self.batch(images)
        features = self.backbone(batch.tensors)
        proposals, losses = self.rpn(batch, features, targets)
        maps = [features[f"p{level}"] for level in range(2, 6)]
        result = self.roi_heads(maps, proposals, batch.image_sizes, targets, pool=pool)
        return losses | result if self.training else result

    def batch(self, images: list[Tensor]) -> ImageList:
        """Normalise and pad with zeros to a common size that the strides divide."""
        sizes = [tuple(image.shape[-2:]) for image in images]
        height, width = (-(-max(side) // SIZE_DIVISIBILITY) * SIZE_DIVISIBILITY for side in zip(*sizes, strict=True))
        batch = self.pixel_mean.new_zeros(len(images), 3, height, width)
        for slot, image in zip(batch, images, strict=True):
            image = image.to(self.pixel_mean.device, torch.float32)
            slot[:, : image.shape[-2], : image.shape[-1]] = (image - self.pixel_mean) / self.pixel_std
        if next(self.parameters()).is_contiguous(memory_format=torch.channels_last):
            batch = batch.contiguous(memory_format=torch.channels_last)
        return ImageList(batch, sizes)


def _initialise(model: MaskRCNN) -> None:
    """Detectron2's initial weights where torchvision's differ."""
    for module in model.rpn.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    heads = model.roi_heads
    for layer in (heads.box_head.fc6, heads.box_head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    for layer, std in ((heads.box_predictor.cls_score, 0.01), (heads.box_predictor.bbox_pred, 0.001)):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
    if heads.mask_head is not None:
        for module in (*heads.mask_head.modules(), heads.mask_predictor.conv5_mask):
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(heads.mask_predictor.mask_fcn_logits.weight, std=0.001)
        nn.init.zeros_(heads.mask_predictor.mask_fcn_logits.bias)
