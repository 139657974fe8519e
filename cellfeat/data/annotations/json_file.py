"""Values of JSON files of label tools, checked as they are taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellfeat.core.files import read_json
from cellfeat.data.annotations.geometry import image_size, is_number, show
from cellfeat.data.annotations.records import Size
from cellfeat.errors import CellfeatError


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CellfeatError: Not JSON, or no object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: holds {show(content)}", "it must hold an object with keys")
    return content


def take(entry: Any, key: str, kind: type, where: str, default: Any = ...) -> Any:
    """The value of a key, which must be of a kind (str, list, dict, or float for a finite number).

    Args:
        entry: What must be an object.
        key: The key.
        kind: What its value must be.
        where: File and place, for the message.
        default: What a missing or null value means; without it, both are errors.

    Raises:
        CellfeatError: No object, no such key, or a value of another kind.
    """
    if not isinstance(entry, dict):
        raise CellfeatError(f"{where} is {show(entry)}", "it must be an object with keys")
    value = entry.get(key)
    if value is None and default is not ...:
        return default
    if key not in entry:
        raise CellfeatError(f"{where} has no {key}", "add it")
    if not (is_number(value) if kind is float else isinstance(value, kind)):
        word = {str: "a text", list: "a list", dict: "an object", float: "a finite number"}[kind]
        raise CellfeatError(f"{where} has {key} {show(value)}", f"it must be {word}")
    return value


def stated_size(entry: dict[str, Any], height: str, width: str, where: str) -> Size | None:
    """The size that a file states by two keys; None where it does not."""
    if entry.get(height) is None and entry.get(width) is None:
        return None
    return image_size(entry.get(height), entry.get(width), where)
