"""The keys of the YAML files that cellfeat reads."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import show

if TYPE_CHECKING:
    from pydantic import BaseModel

MODELS = {
    "pipeline": "cellfeat.workflows.pipeline_config:PipelineConfig",
    "compare": "cellfeat.workflows.comparison_config:CompareConfig",
    "dataset": "cellfeat.data.spec:DatasetSpec",
}


@command()
def schema(
    file: Annotated[
        Literal["pipeline", "compare", "dataset"],
        typer.Argument(help="The YAML of `cellfeat run`, of `cellfeat compare`, or a dataset.yaml."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON schema, which editors use to check and complete YAML.")
    ] = False,
) -> None:
    """List the keys of a YAML file: values, defaults and meaning."""
    from cellfeat.core.settings import json_schema

    module, _, kind = MODELS[file].partition(":")
    model: type[BaseModel] = getattr(import_module(module), kind)
    show(json_schema(model) if as_json else None, _keys(model), as_json)


def _keys(model: type[BaseModel], indent: str = "") -> Iterator[str]:
    from cellfeat.core.settings import describe_settings, nested_model

    for setting in describe_settings(model):
        field = model.model_fields[setting.name]
        inner = nested_model(field)
        default = f", default {setting.default}" if setting.default else ", required" if field.is_required() else ""
        yield f"{indent}{setting.name}: {'' if inner else setting.values}{default if not inner else ''}".rstrip()
        if setting.description:
            yield f"{indent}    # {setting.description}"
        if inner:
            yield from _keys(inner, f"{indent}  ")
