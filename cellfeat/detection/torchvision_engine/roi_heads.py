"""Box and mask heads with Detectron2's numbers on torchvision's RoIHeads, keeping the features of the final boxes."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image
from torchvision.ops import roi_align as torchvision_roi_align

from cellfeat.detection.roi_align import roi_align_into
from cellfeat.detection.torchvision_engine.backbone import norm_layer
from cellfeat.detection.torchvision_engine.processes import Sampler, weight_of
from cellfeat.detection.torchvision_engine.rpn import STRIDES


class ROIPooler(nn.Module):
    """ROIAlign over P2 to P5, aligned (half-pixel centres), each box from the level floor(4 + log2(√area / 224))."""

    def __init__(self, resolution: int, sampling_ratio: int) -> None:
        super().__init__()
        self.resolution, self.sampling_ratio = resolution, sampling_ratio

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Pool `boxes` ((R_i, 4) XYXY, px of the network's input, one tensor an image) → (ΣR_i, C, S, S) float32."""
        every = torch.cat(boxes)
        rois = torch.cat([every.new_tensor([[i]] * len(b)).reshape(-1, 1) for i, b in enumerate(boxes)])
        rois = torch.cat([rois, every], dim=1)
        side = ((every[:, 2] - every[:, 0]) * (every[:, 3] - every[:, 1])).sqrt()
        level = torch.floor(4 + torch.log2(side / 224 + 1e-8)).long().clamp(2, 5) - 2
        out = every.new_empty(len(every), features[0].shape[1], self.resolution, self.resolution)
        for i, feature in enumerate(features):
            index = (level == i).nonzero()[:, 0]
            if len(index):
                roi_align_into(out, index, feature, rois[index], 1 / STRIDES[i], self.sampling_ratio)
        return out


class BoxPredictor(nn.Module):
    """Class logits (R, K + 1), background last, and box deltas (R, 4K), or (R, 4) where they are class-agnostic."""

    def __init__(self, in_features: int, num_classes: int, class_agnostic: bool) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_features, num_classes + 1)
        self.bbox_pred = nn.Linear(in_features, 4 if class_agnostic else 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x).float(), self.bbox_pred(x).float()


class ROIHeads(RoIHeads):
    """Detectron2's StandardROIHeads: boxes from the box head; masks and features from one pooling."""

    def __init__(self, cfg: CfgNode) -> None:
        heads, box, mask = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
        channels = cfg.MODEL.FPN.OUT_CHANNELS
        super().__init__(
            ROIPooler(box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO),
            TwoMLPHead(channels * box.POOLER_RESOLUTION**2, box.FC_DIM),
            BoxPredictor(box.FC_DIM, heads.NUM_CLASSES, box.CLS_AGNOSTIC_BBOX_REG),
            fg_iou_thresh=heads.IOU_THRESHOLDS[0],
            bg_iou_thresh=heads.IOU_THRESHOLDS[0],
            batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
            positive_fraction=heads.POSITIVE_FRACTION,
            bbox_reg_weights=tuple(box.BBOX_REG_WEIGHTS),
            score_thresh=heads.SCORE_THRESH_TEST,
            nms_thresh=heads.NMS_THRESH_TEST,
            detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        self.fg_bg_sampler = Sampler(heads.BATCH_SIZE_PER_IMAGE, heads.POSITIVE_FRACTION)
        self.num_classes = heads.NUM_CLASSES
        self.smooth_l1_beta = box.SMOOTH_L1_BETA
        self.box_loss_weight = box.BBOX_REG_LOSS_WEIGHT
        self.mask_pooler = ROIPooler(mask.POOLER_RESOLUTION, mask.POOLER_SAMPLING_RATIO)
        if cfg.MODEL.MASK_ON:
            self.mask_head = MaskRCNNHeads(channels, [mask.CONV_DIM] * mask.NUM_CONV, 1, norm_layer(mask.NORM))
            classes = 1 if mask.CLS_AGNOSTIC_MASK else heads.NUM_CLASSES
            in_channels = mask.CONV_DIM if mask.NUM_CONV else channels
            self.mask_predictor = MaskRCNNPredictor(in_channels, mask.CONV_DIM, classes)

    def forward(self, features, proposals, image_shapes, targets=None, pool="mask"):  # type: ignore[no-untyped-def, override]
        """Losses in training, detections otherwise.

        Args:
            features: P2 to P5, (N, C, H/stride, W/stride) each.
            proposals: (R_i, 4) XYXY px of the network's input, one an image.
            image_shapes: (height, width) of each image before padding.
            targets: In training: dicts of boxes (G, 4), labels (G,) from 1, masks (G, h, w) uint8.
            pool: Features to keep of each detection: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC, 1, 1).

        Returns:
            The losses by Detectron2's names, or one dict an image: boxes (D, 4), scores (D,), labels (D,) from 0,
            mask_probs (D, 28, 28), roi_features (D, ...), all in the network's frame.
        """
        if self.training:
            proposals, matched, labels, box_targets = self.select_training_samples(proposals, targets)
            logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals)))
            every = torch.cat(labels)
            share = weight_of(len(every), every.device)
            losses = self._box_losses(logits, deltas, every, torch.cat(box_targets))
            losses = {name: share * loss for name, loss in losses.items()}
            if self.mask_head is not None:
                share = weight_of(int((every > 0).sum()), every.device)
                losses["loss_mask"] = share * self._mask_loss(features, proposals, matched, labels, targets)
            return losses
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals)))
        detections = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        self._attach_masks_and_features(features, detections, pool)
        return detections

    def _box_losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> dict[str, Tensor]:
        classes = (labels - 1) % (self.num_classes + 1)  # torchvision: background 0; Detectron2: background last
        foreground = (labels > 0).nonzero()[:, 0]
        per_class = deltas.reshape(len(deltas), -1, 4)
        column = classes[foreground] if per_class.shape[1] > 1 else torch.zeros_like(foreground)
        loss_box = F.smooth_l1_loss(
            per_class[foreground, column], targets[foreground], beta=self.smooth_l1_beta, reduction="sum"
        )
        return {
            "loss_cls": F.cross_entropy(logits, classes),
            "loss_box_reg": self.box_loss_weight * loss_box / max(len(labels), 1),
        }

    def _mask_loss(self, features, proposals, matched, labels, targets):  # type: ignore[no-untyped-def]
        positive = [(label > 0).nonzero()[:, 0] for label in labels]
        boxes = [box[index] for box, index in zip(proposals, positive, strict=True)]
        logits = self.mask_predictor(self.mask_head(self.mask_pooler(features, boxes))).float()
        if not len(logits):
            return logits.sum() * 0
        side, masks = logits.shape[-1], []
        for box, index, match, target in zip(boxes, positive, matched, targets, strict=True):
            rois = torch.cat([match[index].to(box.dtype)[:, None], box], dim=1)
            crops = torchvision_roi_align(target["masks"][:, None].float(), rois, side, aligned=True)[:, 0]
            masks.append((crops >= 0.5).float())
        classes = torch.cat([label[index] for label, index in zip(labels, positive, strict=True)]) - 1
        column = classes if logits.shape[1] > 1 else torch.zeros_like(classes)
        return F.binary_cross_entropy_with_logits(logits[torch.arange(len(logits)), column], torch.cat(masks))

    def postprocess_detections(self, class_logits, box_regression, proposals, image_shapes):  # type: ignore[no-untyped-def]
        counts = [len(p) for p in proposals]
        every = self.box_coder.decode(box_regression, proposals)
        every = every.reshape(sum(counts), box_regression.shape[1] // 4, 4)
        probabilities = class_logits.softmax(-1)
        detections: list[dict[str, Any]] = []
        for boxes, scores, shape in zip(every.split(counts), probabilities.split(counts), image_shapes, strict=True):
            finite = boxes.isfinite().all(-1).all(-1) & scores.isfinite().all(-1)
            boxes, scores = clip_boxes_to_image(boxes[finite], shape), scores[finite][:, :-1]
            row, label = (scores > self.score_thresh).nonzero(as_tuple=True)
            scores = scores[row, label]
            boxes = boxes[row, label if boxes.shape[1] > 1 else 0]
            keep = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
            detections.append({"boxes": boxes[keep], "scores": scores[keep], "labels": label[keep]})
        return detections

    def _attach_masks_and_features(self, features, detections, pool):  # type: ignore[no-untyped-def]
        boxes = [detection["boxes"] for detection in detections]
        counts = [len(b) for b in boxes]
        roi_features = pooled = self.mask_pooler(features, boxes)
        if pool != "mask":
            roi_features = self.box_roi_pool(features, boxes)
            if pool == "box_head":
                roi_features = self.box_head(roi_features).float()[:, :, None, None]
        for detection, part in zip(detections, roi_features.split(counts), strict=True):
            detection["roi_features"] = part
        if self.mask_head is not None:
            labels = torch.cat([detection["labels"] for detection in detections])
            logits = self.mask_predictor(self.mask_head(pooled)).float()
            column = labels if logits.shape[1] > 1 else torch.zeros_like(labels)
            probabilities = logits[torch.arange(len(labels)), column].sigmoid()
            for detection, part in zip(detections, probabilities.split(counts), strict=True):
                detection["mask_probs"] = part
