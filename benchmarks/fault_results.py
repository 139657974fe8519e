"""Whether two outputs of one command are the same: contents are compared, not dates, durations or processes."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

VOLATILE = re.compile(
    r"second|duration|time|date|created|written|pid|host|version|sha256|digest|inputs|memory|path|^files$"
)
LEFTOVER = re.compile(r"^\..*\.partial$|\.lock$|\.tmp$")
# Logs, pictures, caches and state to go on from: only that they are there.
EXISTS = re.compile(r"events\.out|\.png$|\.ckpt$|\.pth$|metrics|\.log$|log\.|last_checkpoint|\.html$|config|\.yaml$")


def contents(folder: Path, names: Container[str] | None = None) -> dict[str, Any]:
    """What a command's output folder holds, by relative path; `names`: of these files only."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        wanted = not LEFTOVER.search(path.name) if names is None else name in names
        if path.is_file() and wanted:
            found[name] = "there" if EXISTS.search(path.name) else _content(path)
    return found


def differences(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """The first difference of two results of `contents`; "": none."""
    if missing := whole.keys() - found.keys():
        return f"lacks {min(missing)}"
    if more := found.keys() - whole.keys():
        return f"has {min(more)}"
    changed = [name for name in whole if not _same(found[name], whole[name])]
    return f"another {changed[0]}" if changed else ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype.kind == "f" and one.shape == other.shape:
            return bool(np.allclose(one, other, atol=1e-5, equal_nan=True))
        return bool(np.array_equal(one, other))
    return bool(one == other)


def _content(path: Path) -> Any:
    try:
        return _read(path)
    except (OSError, ValueError, SafetensorError) as error:
        return f"cannot be read: {error}"


def _read(path: Path) -> Any:
    if path.parent.name == "dropped":  # a damaged shard that was set aside
        return path.read_bytes()
    if path.suffix in (".h5", ".h5ad"):
        with h5py.File(path) as file:
            return _group(file)
    if path.suffix == ".json":
        return _stable(json.loads(path.read_text()))
    if path.suffix == ".csv":
        table = pd.read_csv(path, keep_default_na=False)
        return {name: table[name].to_numpy() for name in table if not VOLATILE.search(str(name))}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        return load_file(path)
    return path.read_bytes()


def _group(group: h5py.Group) -> dict[str, Any]:
    return {
        name: _group(item) if isinstance(item, h5py.Group) else np.asarray(item[()])
        for name, item in group.items()
        if isinstance(item, (h5py.Group, h5py.Dataset))
    }


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return np.asarray(value) if isinstance(value, float) else value
