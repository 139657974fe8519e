"""YAML and JSON checked against pydantic models: errors in one line, and the fields as a user is told of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cellfeat.core.files import read_own_json
from cellfeat.core.text import printable
from cellfeat.core.yaml_text import read_yaml_file
from cellfeat.errors import CellfeatError

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], content: Any, source: str, spelled: Mapping[str, str] | None = None) -> Model:
    """Check `content` against a pydantic model.

    Args:
        source: Where the content is from, for messages.
        spelled: How the user wrote a key, such as --lr for lr.

    Raises:
        CellfeatError: The first fault as one line that names its place.
    """
    try:
        return model.model_validate(dict(content) if isinstance(content, Mapping) else content)
    except ValidationError as error:
        faults = error.errors()
        place = printable(".".join(str(part) for part in faults[0]["loc"]))
        if spelled is not None:
            place = spelled.get(place.partition(".")[0], "")
        reason = "unknown key" if faults[0]["type"] == "extra_forbidden" else faults[0]["msg"]
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        parts = filter(None, (source, place, reason.removeprefix("Value error, ")))
        raise CellfeatError(": ".join(parts) + more) from None


def read_yaml(model: type[Model], path: str | Path, noun: str) -> Model:
    """Read a YAML file and check it against a pydantic model.

    Args:
        noun: What the file is, for messages ("pipeline").

    Raises:
        CellfeatError: No such file, not YAML, an unknown key, or a value that does not fit: named by its place.
    """
    if not Path(path).exists():
        raise CellfeatError(f"{path}: no such file; `cellfeat schema` lists the keys of a {noun}")
    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: not a {noun}: it has no keys")
    return parse(model, content, str(path))


def read_written(model: type[BaseModel], path: str | Path, remedy: str) -> Any:
    """Read a JSON file that cellfeat wrote.

    Args:
        model: Its form.
        path: The file.
        remedy: What to do where it has another form, as after damage or a change by hand.

    Returns:
        What it holds, as JSON gives it.

    Raises:
        CellfeatError: No such file, no JSON, or another form.
    """
    content = read_own_json(path, remedy)
    try:
        parse(model, content, "")
    except CellfeatError as error:
        raise CellfeatError(f"{path}: is not as cellfeat wrote it ({error.what})", remedy) from None
    return content


@dataclass(frozen=True)
class Setting:
    """One field of a model, as a user is told of it.

    Attributes:
        name: Its name.
        values: What it may be: "int", "float > 0", "cell | channel | domain".
        default: As YAML; "" where it has to be given.
        description: One sentence or two.
    """

    name: str
    values: str
    default: str
    description: str


def describe_settings(model: type[BaseModel]) -> Iterator[Setting]:
    """Every field of a pydantic model, described by itself or by the class's docstring."""
    texts = descriptions(model)
    for name, field in model.model_fields.items():
        missing = field.is_required() or field.default_factory is not None or nested_model(field) is not None
        default = "" if missing else yaml.safe_dump(field.default, default_flow_style=True).removesuffix("\n...\n")
        yield Setting(name, _values(field), default.strip(), texts[name])


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Field to description: the field's own, else that under "Attributes:" in the docstring of the class."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        _, _, attributes = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
        name = ""
        for line in attributes.splitlines():
            if match := re.match(r" {4}(\w+): (.*)", line):
                name, found[match[1]] = match[1], match[2]
            elif name and line.startswith(" " * 8):
                found[name] += f" {line.strip()}"
            elif line and not line.startswith(" "):
                break
    return {name: field.description or found.get(name, "") for name, field in model.model_fields.items()}


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model, with the description of every field, wherever it is written."""
    schema = model.model_json_schema()
    parts = {model.__name__: schema} | schema.get("$defs", {})
    models = [model]
    for one in models:  # it grows
        for name, text in descriptions(one).items():
            if text and name in parts[one.__name__]["properties"]:
                parts[one.__name__]["properties"][name]["description"] = text
        inner = [nested_model(field) for field in one.model_fields.values()]
        models += [found for found in inner if found is not None and found not in models]
    return schema


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a list or as one of several."""
    kinds = [field.annotation]
    while kinds:
        kind = kinds.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        kinds += get_args(kind)
    return None


def _values(field: FieldInfo) -> str:
    bounds = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [f"{bounds[k]} {getattr(rule, k)}" for rule in field.metadata for k in bounds if hasattr(rule, k)]
    return " ".join([_type(field.annotation), ", ".join(limits)]).strip()


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_type(part) for part in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is not None:
        parts = [_type(part) for part in get_args(annotation) if part is not ...]
        return f"{_type(get_origin(annotation))} of {', '.join(parts)}"
    return "none" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
