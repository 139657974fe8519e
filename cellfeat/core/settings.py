"""YAML and mappings checked against pydantic models; what is wrong becomes one line that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cellfeat.errors import CellfeatError

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], content: Mapping[str, Any], source: str) -> Model:
    """Check `content` against a pydantic model; the first fault becomes one line that names its place."""
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        faults = error.errors()
        place = ".".join(str(part) for part in faults[0]["loc"]) or "the file"
        reason = "unknown key" if faults[0]["type"] == "extra_forbidden" else faults[0]["msg"]
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise CellfeatError(f"{source}: {place}: {reason}{more}") from None


def read_yaml(model: type[Model], path: str | Path, noun: str) -> Model:
    """Read a YAML file and check it against a pydantic model.

    Args:
        noun: What the file is, for messages ("pipeline").

    Raises:
        CellfeatError: No such file, not YAML, an unknown key, or a value that does not fit: named by its place.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such file; examples/ holds a {noun} to start from") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CellfeatError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: not a {noun}: it has no keys")
    return parse(model, content, str(path))
