"""The processes that torchrun started, which train one detector together as one process would."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from cellfeat.detection.device import take_gpu

PATIENCE = timedelta(days=1)  # of the others while the first process evaluates


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """The processes that torchrun started know each other in this block; one alone has nobody to know."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if device.type == "cuda":
        take_gpu(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's number, from 0, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def shared_number(number: int) -> int:
    """The first process's number."""
    told = [number]
    if place()[1] > 1:
        distributed.broadcast_object_list(told)
    return told[0]


def in_step(model: nn.Module) -> nn.Module:
    """The model, called so that the gradients of all processes are averaged."""
    if place()[1] == 1:
        return model
    # A level of the pyramid on which no box lies has no gradient.
    return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True)


def weight_of(count: int, device: torch.device) -> Tensor | float:
    """What a mean of `count` samples is multiplied by: then its mean over the processes is that of all samples."""
    world = place()[1]
    if world == 1:
        return 1.0
    total = torch.tensor(float(count), device=device)
    distributed.all_reduce(total)
    return count * world / total.clamp(min=1)


def mean_of_all(values: Tensor) -> Tensor:
    """The mean of the processes' tensors."""
    world = place()[1]
    if world > 1:
        distributed.all_reduce(values)
    return values / world


class Sampler(BalancedPositiveNegativeSampler):
    """Draws anchors or boxes of each image by a seed of the image, whichever others the process has beside it.

    Attributes:
        seeds: One an image of the next batch; without them the draws are those of PyTorch's generator.
    """

    seeds: Sequence[int] = ()

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Any], list[Any]]:
        positive: list[Any] = []
        negative: list[Any] = []
        for k, matched in enumerate(matched_idxs):
            if self.seeds:
                torch.manual_seed(self.seeds[k])
            for found, more in zip((positive, negative), super().__call__([matched])):
                found += more
        return positive, negative
