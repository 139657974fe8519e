"""cellfeat's training samples as batches of Detectron2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import comm
from torch.utils.data import DataLoader

from cellfeat.detection.training_samples import Sample, TrainingSamples
from cellfeat.errors import CellfeatError


def training_loader(
    cfg: CfgNode, seed: int, first_iteration: int, data_root: Path | None = None
) -> DataLoader[list[Sample]]:
    """This rank's share of each batch of IMS_PER_BATCH samples, from `first_iteration` on, as Detectron2's dicts."""
    world, rank, batch = comm.get_world_size(), comm.get_rank(), cfg.SOLVER.IMS_PER_BATCH
    if batch % world:
        raise CellfeatError(f"SOLVER.IMS_PER_BATCH: {batch} images cannot be shared by {world} processes")
    share = batch // world
    samples = TrainingSamples(cfg, seed, data_root)
    starts = range(first_iteration * batch, len(samples), batch)
    return DataLoader(
        samples,  # type: ignore[arg-type]  # batches are lists of dicts
        batch_sampler=[list(range(start + rank * share, start + (rank + 1) * share)) for start in starts],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=to_detectron2_batch,
    )


def to_detectron2_batch(samples: list[Sample]) -> list[dict[str, Any]]:
    """Samples as Detectron2's models take them: "image" and, with boxes, classes and bitmasks, "instances"."""
    batch = []
    for image, target in samples:
        truth = Instances(tuple(image.shape[-2:]))
        truth.gt_boxes, truth.gt_classes = Boxes(target["boxes"]), target["labels"] - 1
        truth.gt_masks = BitMasks(target["masks"].bool())
        batch.append({"image": image, "instances": truth})
    return batch
