"""Where a detector runs, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from cellfeat.errors import CellfeatError


def resolve_device(name: str) -> torch.device:
    """Detectron2's default device is `cuda`; where there is no GPU that means the CPU.

    Raises:
        CellfeatError: There is no such kind of device.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        return torch.device("cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise CellfeatError(f"MODEL.DEVICE: {name!r} is no device of PyTorch", "give cpu or cuda") from None


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[None]:
    """bf16 autocast on `device`; bf16 has float32's range, so no loss scaling is needed."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def to_inference(model: nn.Module, device: torch.device, precision: str) -> None:
    """Bring `model` to `device`, in evaluation mode and in the layout that its precision is fastest in."""
    # Convolutions in channels_last sum in another order: faster in bf16, no longer Detectron2's numbers in fp32.
    layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
    model.to(device).to(memory_format=layout).eval()


def take_gpu(place: int) -> None:
    """Make the GPU of the process with this number on its machine what `cuda` means, where there are GPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
