"""Tensors as safetensors files, and the device they are worked on: what the autoencoder and the methods share."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cellfeat.core.files import atomic_path
from cellfeat.errors import CellfeatError


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        partial.write_bytes(save(content))


def load_tensors(path: Path, make: str, remake: str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        make: What to do where there is no such file.
        remake: What to do about a damaged one.

    Raises:
        CellfeatError: It is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such file; {make}") from None
    except (SafetensorError, OSError) as error:
        raise CellfeatError(f"{path}: not a readable safetensors file ({error}); {remake}") from None


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
