"""Pydantic's findings as one line that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

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
