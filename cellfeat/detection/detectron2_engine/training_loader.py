"""cellfeat's training samples as batches of Detectron2."""

from __future__ import annotations

from typing import Any

from detectron2.structures import BitMasks, Boxes, Instances

from cellfeat.detection.training_samples import Sample


def to_detectron2_batch(samples: list[Sample]) -> list[dict[str, Any]]:
    """Samples as Detectron2's models take them: "image" and, with boxes, classes and bitmasks, "instances"."""
    batch = []
    for image, target in samples:
        truth = Instances(tuple(image.shape[-2:]))
        truth.gt_boxes, truth.gt_classes = Boxes(target["boxes"]), target["labels"] - 1
        truth.gt_masks = BitMasks(target["masks"].bool())
        batch.append({"image": image, "instances": truth})
    return batch
