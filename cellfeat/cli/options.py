"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cellfeat.errors import CellfeatError

StorePath = Annotated[Path, typer.Argument(help="Folder of a feature store.", show_default=False)]
EmbeddingFiles = Annotated[list[Path], typer.Argument(help="Embedding files, one a method.", show_default=False)]
EmbeddingFilesIfAny = Annotated[
    list[Path] | None, typer.Argument(help="Embedding files, one a method.", show_default=False)
]
MoreEmbeddings = Annotated[list[Path] | None, typer.Option("--embeddings", help="Embedding file; may be given again.")]
Labels = Annotated[
    Path | None, typer.Option(help="Labels in place of the store's: a table cell_id,label of `annotate`.")
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config-file",
        help="Detector config: a path, or a name that `cellfeat configs` lists. Default: the config.yaml beside the "
        "weights that are run, else wbc_mask_rcnn_R_101_FPN.yaml.",
    ),
]
KeyValues = Annotated[
    list[str] | None, typer.Argument(metavar="KEY VALUE", help="Keys of the config and their values.")
]
Engine = Annotated[
    Literal["auto", "detectron2", "torchvision"],
    typer.Option(help="auto takes Detectron2 where it can be imported."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Log = Annotated[
    Literal["tensorboard"] | None,
    typer.Option("--log", help="Where losses go besides: tensorboard writes into the folder of each training."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done; nothing is written.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that share the work and the cores.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Machines of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local: this machine alone.",
    ),
]
FromStage = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Redo this stage and all after it.")]


def show(data: Any, lines: Iterable[str], as_json: bool) -> None:
    """Print what a command found: as JSON for programs, else as lines for people.

    Args:
        data: Dicts, lists, texts, numbers and paths.
        lines: The same in words; taken only where they are printed.
    """
    if as_json:
        print(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    else:
        for line in lines:
            print(line, flush=True)


CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


def split_key_values(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Arguments before and from the first one that looks like a key of a detector's config and is no file.

    Raises:
        CellfeatError: As `check_no_option`.
    """
    check_no_option(arguments)
    for k, argument in enumerate(arguments):
        if CONFIG_KEY.fullmatch(argument) and not Path(argument).exists():
            return arguments[:k], arguments[k:]
    return arguments, []


def check_no_option(arguments: list[str]) -> None:
    """Refuse a mistyped option, which a command that takes KEY VALUE pairs finds among its arguments.

    Raises:
        CellfeatError: An argument begins with --.
    """
    if unknown := [argument for argument in arguments if argument.startswith("--")]:
        raise CellfeatError(f"No such option: {unknown[0]}", "-h lists the command's options")
