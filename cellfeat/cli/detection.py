"""Commands on detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import AsJson, ConfigFile, Engine, KeyValues, Log, check_no_option, show


@command(key_values=True, interrupted="run the same command with --resume: it continues from the last checkpoint")
def train_net(
    opts: KeyValues = None,
    config_file: ConfigFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in OUTPUT_DIR.")] = False,
    eval_only: Annotated[bool, typer.Option("--eval-only", help="Evaluate MODEL.WEIGHTS on DATASETS.TEST.")] = False,
    num_gpus: Annotated[int | None, typer.Option(help="0: CPU; else GPUs; default: one if there is one.")] = None,
    num_machines: Annotated[int, typer.Option(help="Machines that train together.")] = 1,
    machine_rank: Annotated[int, typer.Option(help="This machine's number among them.")] = 0,
    dist_url: Annotated[str, typer.Option(help="Where machines meet: tcp://HOST:PORT.")] = "auto",
    engine: Engine = "auto",
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Train or evaluate a detector (Detectron2's arguments)."""
    from cellfeat.core.tracking import tracker, tracking
    from cellfeat.detection.train_net import scores_table, train_net

    check_no_option(opts or [])
    machines = (num_machines, machine_rank, dist_url)
    config = Path(config_file) if config_file else None
    with tracking(*tracker(log)):
        scores = train_net(config, opts or [], resume, eval_only, num_gpus, engine, *machines)
    show(scores, [scores_table(scores)], as_json)


@command()
def convert_weights(
    source: Annotated[str, typer.Argument(help="Weights of Detectron2, its model zoo or torchvision.")],
    target: Annotated[Path, typer.Argument(help="A .pth or .safetensors with Detectron2's names.")],
    half: Annotated[bool, typer.Option("--half", help="In half precision: half of the size.")] = False,
) -> None:
    """Rewrite detector weights with Detectron2's parameter names, which both engines read."""
    from cellfeat.detection.convert_weights import convert_weights as convert

    print(convert(source, target, half))


@command()
def configs(as_json: AsJson = False) -> None:
    """List the detector configs that come with cellfeat, and what each is for."""
    from cellfeat.detection.config import shipped_configs

    found = [{"name": path.name, "purpose": purpose} for path, purpose in shipped_configs().items()]
    show(found, (f"{config['name']}\n    {config['purpose']}" for config in found), as_json)
