"""Which precision a device computes in at a useful speed."""

from __future__ import annotations

import logging
from functools import cache

import torch

log = logging.getLogger(__name__)


def usable(precision: str, device: torch.device) -> str:
    """The precision to compute in: "fp32" in place of "bf16" on a CPU that has no instructions for it.

    Such a CPU converts every number there and back: convolutions took 20 times as long as in fp32 on an AVX2 machine.

    Args:
        precision: "fp32" or "bf16", as asked for.
        device: Where the network runs.
    """
    if precision == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        _say_once()
        return "fp32"
    return precision


@cache
def _cpu_has_bf16() -> bool:
    """As oneDNN sees it, which computes PyTorch's convolutions."""
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return known is None or bool(known())


@cache
def _say_once() -> None:
    log.warning("this CPU has no instructions for bf16 and would take many times as long: computing in fp32")
