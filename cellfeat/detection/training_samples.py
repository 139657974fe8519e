"""Training samples: a fixed sequence in which sample i is the same however often training was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from pycocotools import mask as rle
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cellfeat.data.images import read_rgb
from cellfeat.detection.augmentation import augment
from cellfeat.detection.classes import class_names, reference_coco
from cellfeat.detection.network_input import check_maps, to_network
from cellfeat.errors import CellfeatError

Sample = tuple[Tensor, dict[str, Tensor]]


class TrainingSamples(Dataset[Sample]):
    """Augmented images of DATASETS.TRAIN: every image once an epoch, in an order drawn from the seed.

    Sample i is (image (3, h, w) uint8 in the config's channel order, {"boxes": (n, 4) float32 XYXY px, "labels": (n,)
    int64 from 1, "masks": (n, h, w) uint8}).
    """

    def __init__(self, cfg: CfgNode, seed: int, data_root: Path | None = None) -> None:
        self.cfg, self.seed = cfg, seed
        self.images = _annotated_images(cfg, data_root)

    def __len__(self) -> int:
        return self.cfg.SOLVER.MAX_ITER * self.cfg.SOLVER.IMS_PER_BATCH

    def __getitem__(self, i: int) -> Sample:
        epoch, position = divmod(i, len(self.images))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        record = self.images[order[position]]
        image = read_rgb(record["file_name"], bits=record["bits"])
        masks = (
            np.stack([_decode(mask, image.shape[:2]) for mask in record["masks"]])
            if record["masks"]
            else (np.zeros((0, *image.shape[:2]), np.uint8))
        )
        if masks.shape[1:] != image.shape[:2]:
            raise CellfeatError(
                f"{record['file_name']}: image {image.shape[:2]} and masks {masks.shape[1:]} differ in size"
            )
        rng = np.random.default_rng([self.seed, 1, i])
        image, masks = augment(image, masks, record["um_per_px"], self.cfg, rng)
        check_maps(self.cfg, image.shape[:2])
        return to_network(image, image.shape[:2], self.cfg.INPUT.FORMAT), _target(masks, record["labels"])


def training_loader(
    cfg: CfgNode,
    seed: int,
    first_iteration: int,
    data_root: Path | None = None,
    rank: int = 0,
    world: int = 1,
    collate: Callable[[list[Sample]], list[Any]] = list,
) -> DataLoader[Any]:
    """A process's share of each batch of IMS_PER_BATCH samples, from `first_iteration` to SOLVER.MAX_ITER.

    Args:
        rank: Number of the process, from 0.
        world: How many there are.
        collate: What the samples of a share are made into.

    Raises:
        CellfeatError: A batch cannot be shared out equally.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % world:
        raise CellfeatError(f"SOLVER.IMS_PER_BATCH: {batch} images cannot be shared by {world} processes")
    share = batch // world
    samples = TrainingSamples(cfg, seed, data_root)
    starts = range(first_iteration * batch + rank * share, len(samples), batch)
    return DataLoader(
        samples,  # type: ignore[arg-type]  # batches are lists
        batch_sampler=[list(range(start, start + share)) for start in starts],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=collate,
    )


def _annotated_images(cfg: CfgNode, data_root: Path | None) -> list[dict[str, Any]]:
    if not cfg.DATASETS.TRAIN:
        raise CellfeatError("DATASETS.TRAIN is empty: name the datasets to train on, such as wbc-seg-tecom@train")
    images: list[dict[str, Any]] = []
    for name in cfg.DATASETS.TRAIN:
        coco = reference_coco(name, class_names(cfg), data_root)
        by_image: dict[int, list[Any]] = {image["id"]: [] for image in coco["images"]}
        for annotation in coco["annotations"]:
            if cfg.MODEL.MASK_ON and "segmentation" not in annotation:
                raise CellfeatError(
                    f"{name}: has boxes without masks, and a Mask R-CNN trains on masks",
                    "set MODEL.MASK_ON False to train a Faster R-CNN on the boxes",
                )
            by_image[annotation["image_id"]].append(annotation)
        images += [
            {
                "file_name": image["file_name"],
                "um_per_px": image.get("um_per_px"),
                "bits": image.get("bits"),
                "masks": [cell.get("segmentation", cell["bbox"]) for cell in by_image[image["id"]]],
                "labels": [cell["category_id"] for cell in by_image[image["id"]]],
            }
            for image in coco["images"]
            if by_image[image["id"]] or not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        ]
    if not images:
        raise CellfeatError(f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)}: no image with a mask")
    return images


def _decode(mask: Any, size: tuple[int, int]) -> np.ndarray:
    """A compressed RLE as uint8 0/1 (h, w); of a cell with a box alone (XYWH px) the pixels that the box covers."""
    if isinstance(mask, dict):
        return rle.decode(mask)
    x, y, width, height = mask
    filled = np.zeros(size, np.uint8)
    filled[round(y) : max(round(y + height), round(y) + 1), round(x) : max(round(x + width), round(x) + 1)] = 1
    return filled


def _target(masks: np.ndarray, labels: list[int]) -> dict[str, Tensor]:
    """Boxes around what augmentation left of each mask; a cell that it turned out of the image is dropped."""
    left = masks.any(axis=(1, 2))
    masks = masks[left]
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(np.array(labels, np.int64)[left]),
        "masks": torch.from_numpy(masks),
    }
