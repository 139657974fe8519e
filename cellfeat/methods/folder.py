"""The folder that a method learns into: the record of its run, and tensors that are read without unpickling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from cellfeat.core import tensors
from cellfeat.core.files import read_json
from cellfeat.core.run_record import RunRecord
from cellfeat.errors import CellfeatError
from cellfeat.methods.registry import build

if TYPE_CHECKING:
    from cellfeat.methods.base import Method
    from cellfeat.store import Store

FIT = "fit.json"


def run_record(
    folder: Path, method: Method, store: Store, resumable: Sequence[str] = ("checkpoints/*.ckpt",), **rows: np.ndarray
) -> RunRecord:
    """The record of a fit: the method, its config, the store and the rows by role.

    Args:
        folder: What the method learns lies here.
        resumable: Files in it from which an interrupted fit continues.
        rows: Store row numbers by role, such as `rows` and `target_rows`.
    """
    inputs: dict[str, Any] = {
        "method": method.name,
        "store_digest": store.digest,
        "rows": {role: hashlib.sha256(np.asarray(k, np.int64).tobytes()).hexdigest() for role, k in rows.items()},
        "config": method.config.model_dump(mode="json"),
    }
    return RunRecord(folder, inputs, resumable, FIT)


def reopen(folder: Path, store: Store | None = None) -> Any:
    """The method that was fitted in `folder`, with its config.

    Args:
        folder: What the method learned lies here.
        store: The store that it must have been fitted on; None: any.

    Raises:
        CellfeatError: Nothing was fitted in `folder`, or it was on another store.
    """
    path = folder / FIT
    if not path.is_file():
        below = sorted(folder.rglob(FIT))
        hint = f"; there is {below[0].parent}, one of {len(below)}" if below else ""
        raise CellfeatError(f"{path}: no such file", f"give the folder that a method was fitted in{hint}")
    content = read_json(path)
    run = content.get("inputs") if isinstance(content, dict) else None
    if not (isinstance(run, dict) and isinstance(run.get("method"), str) and isinstance(run.get("config", {}), dict)):
        raise CellfeatError(f"{path}: names no method, or settings that are none", "remove the folder and fit again")
    if store is not None and run.get("store_digest") != store.digest:
        raise CellfeatError(f"{path}: fitted on another store than {store.path}", "give that one, or fit again")
    return build(run["method"], run.get("config"))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the safetensors file of a fitted method.

    Raises:
        CellfeatError: It is missing or damaged.
    """
    return tensors.load_tensors(path, "fit the method first", "remove it and fit again")
