"""Detector configs as files: YAML whose key `_BASE_` names the file, or files, that it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellfeat.core.yaml_text import read_yaml_file
from cellfeat.errors import CellfeatError

BASE = "_BASE_"
MAX_BASES = 10  # in a row; Detectron2's own configs have up to three
SUFFIXES = (".yaml", ".yml")


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys of a config, those of its bases included, as fvcore's `CfgNode.load_yaml_with_base` merges them.

    Args:
        path: A YAML file. A base lies on this machine, is named relative to the file that names it, and ends in .yaml
            or .yml; nothing is downloaded.

    Raises:
        CellfeatError: A file is missing or is not YAML of keys, a base is none of these, bases go in a circle, or keys
            replace a value of a base.
    """
    return _read(path, 0)


def _read(path: Path, depth: int) -> dict[str, Any]:
    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: not a detector config, it has no keys such as MODEL")
    if (key := _no_name(content)) is not None:
        raise CellfeatError(f"{path}: the key {key} is no text; see the configs that come with cellfeat")
    named = content.pop(BASE, [])
    bases = named if isinstance(named, list) else [named]
    if bases and depth == MAX_BASES:
        raise CellfeatError(f"{path}: {BASE}: more than {MAX_BASES} bases in a row, or a circle of them")
    merged: dict[str, Any] = {}
    for base in bases:
        if not isinstance(base, str) or not base.endswith(SUFFIXES) or "://" in base:
            raise CellfeatError(f"{path}: {BASE}: {str(base)[:100]!r} is no local file that ends in .yaml or .yml")
        file = path.parent / Path(base).expanduser()
        if not file.is_file():
            raise CellfeatError(f"{path}: {BASE}: {file}: no such config file")
        _merge(_read(file, depth + 1), merged, str(file))
    _merge(content, merged, str(path))
    return merged


def _no_name(content: Any) -> str | None:
    """A key anywhere in the tree that is no text, as it would be written; None: there is none."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str):
                return repr(key)
            if (found := _no_name(value)) is not None:
                return found
    return None


def _merge(changes: dict[Any, Any], into: dict[Any, Any], source: str) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise CellfeatError(f"{source}: {key}: has keys of its own here, but a value in its base")
            _merge(value, into[key], source)
        else:
            into[key] = value
