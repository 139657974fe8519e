"""Anchors and region proposals with Detectron2's numbers on torchvision's region proposal network."""

from __future__ import annotations

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import batched_nms, clip_boxes_to_image

from cellfeat.detection.torchvision_engine.processes import Sampler
from cellfeat.errors import CellfeatError

STRIDES = (4, 8, 16, 32, 64)  # px of the network's input, P2 to P6


class Anchors(nn.Module):
    """Detectron2's anchors: unrounded, centred on `OFFSET` × stride, ordered by position, size, aspect ratio."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        generator = cfg.MODEL.ANCHOR_GENERATOR
        self.strides = STRIDES[-len(cfg.MODEL.RPN.IN_FEATURES) :]
        count = len(self.strides)
        sizes, ratios = (list(levels) * (count // len(levels)) for levels in (generator.SIZES, generator.ASPECT_RATIOS))
        self.cells = [_cell_anchors(*level) for level in zip(sizes, ratios, strict=True)]
        self.offset = generator.OFFSET

    def num_anchors_per_location(self) -> list[int]:
        return [len(cell) for cell in self.cells]

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """All levels' anchors, XYXY px of the network's input: one (sum of h × w × A, 4) for each image."""
        levels = []
        for cell, stride, feature in zip(self.cells, self.strides, maps, strict=True):
            height, width = feature.shape[-2:]
            y, x = (
                torch.arange(self.offset * stride, n * stride, step=stride, dtype=torch.float32, device=feature.device)
                for n in (height, width)
            )
            y, x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
            levels.append((shifts + cell.to(feature.device)).reshape(-1, 4))
        anchors = torch.cat(levels)
        return [anchors for _ in images.image_sizes]


def _cell_anchors(sizes: list[float], ratios: list[float]) -> Tensor:
    boxes = []
    for size in sizes:
        for ratio in ratios:  # height / width
            width = (size**2.0 / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


class RPN(RegionProposalNetwork):
    """torchvision's RPN with Detectron2's choice of proposals and its losses.

    Proposals are ranked by their logits; the losses are summed and divided by the number of anchors that the config
    asks to sample, not by the number that could be.
    """

    def __init__(self, cfg: CfgNode) -> None:
        anchors, rpn = Anchors(cfg), cfg.MODEL.RPN
        super().__init__(
            anchors,
            RPNHead(cfg.MODEL.FPN.OUT_CHANNELS, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=rpn.IOU_THRESHOLDS[1],
            bg_iou_thresh=rpn.IOU_THRESHOLDS[0],
            batch_size_per_image=rpn.BATCH_SIZE_PER_IMAGE,
            positive_fraction=rpn.POSITIVE_FRACTION,
            pre_nms_top_n={"training": rpn.PRE_NMS_TOPK_TRAIN, "testing": rpn.PRE_NMS_TOPK_TEST},
            post_nms_top_n={"training": rpn.POST_NMS_TOPK_TRAIN, "testing": rpn.POST_NMS_TOPK_TEST},
            nms_thresh=rpn.NMS_THRESH,
        )
        self.in_features = rpn.IN_FEATURES
        self.fg_bg_sampler = Sampler(rpn.BATCH_SIZE_PER_IMAGE, rpn.POSITIVE_FRACTION)
        self.box_coder.weights = tuple(rpn.BBOX_REG_WEIGHTS)
        self.min_size = cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE
        self.batch_size_per_image = rpn.BATCH_SIZE_PER_IMAGE
        self.smooth_l1_beta = rpn.SMOOTH_L1_BETA
        self.loss_weight = {"cls": rpn.LOSS_WEIGHT, "loc": rpn.LOSS_WEIGHT * rpn.BBOX_REG_LOSS_WEIGHT}

    def forward(self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None):  # type: ignore[override]
        """Proposals, one (R, 4) XYXY in px of the network's input for each image, and in training the two losses."""
        proposals, losses = super().forward(images, {name: features[name] for name in self.in_features}, targets)
        names = {"loss_objectness": "loss_rpn_cls", "loss_rpn_box_reg": "loss_rpn_loc"}
        return proposals, {names[name]: value for name, value in losses.items()}

    def filter_proposals(self, proposals, objectness, image_shapes, num_anchors_per_level):  # type: ignore[no-untyped-def]
        logits = objectness.detach().float().reshape(len(proposals), -1)
        proposals = proposals.float()
        top = self._get_top_n_idx(logits, num_anchors_per_level)
        levels = torch.cat([torch.full((n,), i, device=top.device) for i, n in enumerate(num_anchors_per_level)])
        boxes_out, scores_out = [], []
        for boxes, scores, index, shape in zip(proposals, logits, top, image_shapes, strict=True):
            boxes, scores, level = boxes[index], scores[index], levels[index]
            finite = boxes.isfinite().all(dim=1) & scores.isfinite()
            if self.training and not finite.all():
                raise CellfeatError("training diverged: proposals are not finite; lower SOLVER.BASE_LR")
            boxes = clip_boxes_to_image(boxes, shape)
            large = ((boxes[:, 2:] - boxes[:, :2]) > self.min_size).all(dim=1)
            keep = (finite & large).nonzero()[:, 0]
            boxes, scores, level = boxes[keep], scores[keep], level[keep]
            keep = batched_nms(boxes, scores, level, self.nms_thresh)[: self.post_nms_top_n()]
            boxes_out.append(boxes[keep])
            scores_out.append(scores[keep])
        return boxes_out, scores_out

    def compute_loss(self, objectness, pred_bbox_deltas, labels, regression_targets):  # type: ignore[no-untyped-def]
        positive, negative = (torch.cat(mask).bool() for mask in self.fg_bg_sampler(labels))
        sampled = positive | negative
        count = self.batch_size_per_image * len(labels)
        loss_cls = F.binary_cross_entropy_with_logits(
            objectness.flatten().float()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        loss_loc = F.smooth_l1_loss(
            pred_bbox_deltas.float()[positive],
            torch.cat(regression_targets)[positive],
            beta=self.smooth_l1_beta,
            reduction="sum",
        )
        return self.loss_weight["cls"] * loss_cls / count, self.loss_weight["loc"] * loss_loc / count
