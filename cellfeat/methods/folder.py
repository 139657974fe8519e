"""The folder that a method learns into: whose run lies there, and tensors that are read without unpickling."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from cellfeat.core import tensors
from cellfeat.core.files import read_json, write_json
from cellfeat.errors import CellfeatError
from cellfeat.methods.registry import build

if TYPE_CHECKING:
    from cellfeat.methods.base import Method
    from cellfeat.store import Store


def claim(folder: Path, method: Method, store: Store, **rows: np.ndarray) -> None:
    """Write fit.json, what defines the run in `folder`: the method, its config, the store and the rows by role.

    Raises:
        CellfeatError: The folder holds a run that differs; the message names the first thing that does.
    """
    run: dict[str, Any] = {"method": method.name, "store_digest": store.digest}
    run |= {role: hashlib.sha256(np.asarray(k, np.int64).tobytes()).hexdigest() for role, k in rows.items()}
    run |= {f"config.{key}": value for key, value in method.config.model_dump(mode="json").items()}
    path = folder / "fit.json"
    if path.exists():
        there = read_json(path)
        for key in run | there:
            if run.get(key) != there.get(key):
                raise CellfeatError(
                    f"{path}: another run, with {key} {there.get(key)!r}, now {run.get(key)!r}; use another folder"
                )
    else:
        write_json(path, run)


def reopen(folder: Path, store: Store) -> Any:
    """The method whose run `claim` wrote down in `folder`, with its config.

    Raises:
        CellfeatError: Nothing was fitted in `folder`, or it was on another store.
    """
    path = folder / "fit.json"
    if not path.is_file():
        below = sorted(folder.rglob("fit.json"))
        hint = f"; there is {below[0].parent}, one of {len(below)}" if below else ""
        raise CellfeatError(f"{path}: no such file; give the folder that a method was fitted in{hint}")
    run = read_json(path)
    if not isinstance(run, dict) or not isinstance(run.get("method"), str):
        raise CellfeatError(f"{path}: names no method; remove the folder and fit again")
    if run.get("store_digest") != store.digest:
        raise CellfeatError(f"{path}: fitted on another store than {store.path}; give that one, or fit again")
    return build(run["method"], {key[7:]: value for key, value in run.items() if key.startswith("config.")})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the safetensors file of a fitted method.

    Raises:
        CellfeatError: It is missing or damaged.
    """
    return tensors.load_tensors(path, "fit the method first", "remove it and fit again")
