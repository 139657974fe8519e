"""The command on published weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import AsJson, show
from cellfeat.errors import CellfeatError


@command()
def weights(
    action: Annotated[
        Literal["list", "get", "verify"],
        typer.Argument(help="list all, get those that are named, or verify those in the cache."),
    ],
    names: Annotated[list[str] | None, typer.Argument(help="As `weights list` has them.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List published weights with licence and card, download them by name, or check those in the cache."""
    from cellfeat.core.download import cache_folder
    from cellfeat.core.weights import REGISTRY, cached_weights, find_weights, get_weights

    for name in names or ():
        find_weights(name)
    if action == "list":
        chosen = {name: REGISTRY[name] for name in names or REGISTRY}
        found = [
            {"name": name, "state": "cached" if cached_weights(name) else "absent", **vars(entry)}
            for name, entry in chosen.items()
        ]
        lines = [f"cache: {cache_folder()} (CELLFEAT_CACHE)"]
        for one in found:
            lines += [f"{one['name']:24} {one['state']:7} for {one['purpose']}"]
            lines += [f"    {one[key]}" for key in ("url", "licence", "card")]
        show({"cache": cache_folder(), "weights": found}, lines, as_json)
    elif action == "get":
        if not names:
            raise CellfeatError("weights get: no name is given", "`cellfeat weights list` has them")
        files = {name: get_weights(name) for name in names}
        show(files, map(str, files.values()), as_json)
    else:
        _verify(names or list(REGISTRY), as_json)


def _verify(names: Sequence[str], as_json: bool) -> None:
    """Check what is in the cache; a file with another digest exits with 1."""
    from cellfeat.core.weights import verify_weights

    states: dict[str, Any] = {}
    for name in names:
        try:
            path: Path | None = verify_weights(name)
            states[name] = "verified" if path else "absent"
        except CellfeatError as error:
            states[name] = str(error)
    show(states, (f"{name:24} {state}" for name, state in states.items()), as_json)
    raise typer.Exit(1 if any(state not in ("verified", "absent") for state in states.values()) else 0)
