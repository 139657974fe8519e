"""Tensors on disk, as safetensors files and as checkpoints, and the device that works on them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cellfeat.core.files import atomic_path
from cellfeat.core.pickle_file import read_pickle
from cellfeat.errors import CannotWrite, CellfeatError, Damaged, one_line

AGAIN = "remove it; the same command then trains from the start"


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


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and texts in dicts and lists with torch.save, whole or not at all.

    Raises:
        CannotWrite: The disk is full, read-only or out of reach; what was at `path` before is kept.
    """
    buffer = io.BytesIO()  # torch.save into a file hides the disk's answer in a RuntimeError
    torch.save(state, buffer)
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(buffer.getbuffer())
    except OSError as error:
        remedy = "free space or choose another folder, and run again: it continues from the checkpoint before"
        raise CannotWrite(f"{path}: {error.strerror or error}", remedy) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU; only tensors and plain values are built from the file.

    Raises:
        CellfeatError: There is no such file.
        Damaged: It is cut or changed.
    """
    if path.exists() and not path.is_file():
        raise Damaged(f"{path}: is no file", AGAIN)
    try:
        state = read_torch(path)
    except Damaged as error:
        raise Damaged(f"{path}: not a readable checkpoint ({error.what.removeprefix(f'{path}: ')})", AGAIN) from None
    if not isinstance(state, dict) or not state:
        raise Damaged(f"{path}: not a checkpoint", AGAIN)
    return state


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Around what takes the content of a checkpoint: another form of it ends in one line.

    Raises:
        Damaged: What the block met is not there, or has another type, name or shape.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> Damaged:
    """The error for a checkpoint whose content is of another form."""
    detail = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)[:200]
    return Damaged(f"{path}: cannot go on from this checkpoint ({detail})", AGAIN)


def read_torch(path: Path) -> Any:
    """Read what torch.save wrote, onto the CPU, whoever wrote it: `torch.load` believes the sizes that a file states.

    Returns:
        As `read_pickle`, with arrays of numbers as tensors.

    Raises:
        Damaged: It is cut, changed or forged.
        CellfeatError: There is no such file, or it holds more than tensors and plain values.
    """
    return _with_tensors(read_pickle(path))


def _with_tensors(content: Any) -> Any:
    if isinstance(content, np.ndarray):
        return torch.from_numpy(content) if content.dtype.kind in "biufc" else content
    if isinstance(content, dict):
        return {key: _with_tensors(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(map(_with_tensors, content))
    return content


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """What `best_device` is, for people."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"the CPU with {threads} thread{'s' if threads > 1 else ''}"
