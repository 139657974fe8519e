"""The subcommand `cellfeat methods`."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

WIDTH = 100  # columns of the description of a setting


def methods(
    method: Annotated[
        str | None, typer.Option(help="Show all settings of this method, such as psd or timm:<model>.")
    ] = None,
) -> None:
    """List the methods that embed cells or predict classes: kind, title and needs; with --method its settings."""
    from cellfeat.methods import describe, list_methods

    for info in [describe(method)] if method else list_methods():
        needs = f" (needs {', '.join(info.needs)})" if info.needs else ""
        print(f"{info.name:18} {info.kind:11} {info.title}{needs}")
        for setting in info.settings if method else ():
            default = f"default {setting.default}" if setting.default else "has to be given"
            print(f"\n  {setting.name}: {setting.values}, {default}")
            print(textwrap.indent(textwrap.fill(setting.description, WIDTH - 4), "    "))


def register(app: typer.Typer) -> None:
    """Add the subcommand to the `cellfeat` command."""
    app.command()(methods)
