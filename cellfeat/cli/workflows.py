"""Commands that take several stages at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellfeat.cli.command import CONTINUES, command
from cellfeat.cli.options import ConfigFile, Engine, FromStage, KeyValues
from cellfeat.errors import CellfeatError


@command(interrupted=CONTINUES)
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write images, models and the report.")] = Path(
        "cellfeat-demo"
    ),
    start: FromStage = None,
) -> None:
    """Draw three synthetic laboratories and take all steps to report.html (about six minutes on two cores)."""
    from cellfeat.workflows.demo import run_demo

    print(f"report: {run_demo(folder, start)}")


@command(interrupted=CONTINUES)
def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML; see examples/.", show_default=False)],
    start: FromStage = None,
) -> None:
    """Run a pipeline from images to a report; stages that are already done are skipped."""
    from cellfeat.workflows.pipeline import run_pipeline

    print(f"report: {run_pipeline(pipeline, start)}")


@command(settings="cellfeat.workflows.dump_config:DumpConfig", key_values=True, interrupted=CONTINUES)
def dump(
    settings: Any,
    opts: KeyValues = None,
    config_file: ConfigFile = None,
    weights: Annotated[str | None, typer.Option(help="Detector checkpoint; default: MODEL.WEIGHTS.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Dataset of the catalogue; may be given again.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("store"),
    ranks: Annotated[int, typer.Option(min=1, help="Processes, one a GPU (needs Detectron2).")] = 1,
    engine: Engine = "auto",
) -> None:
    """Find cells in datasets and store their features; run again after an interruption, it continues."""
    from cellfeat.core.files import read_json
    from cellfeat.detection.checkpoint_config import config_of_checkpoint
    from cellfeat.workflows.dump import SUMMARY, dump, summary_table

    if not dataset:
        raise CellfeatError("--dataset: name at least one; `cellfeat datasets` lists them")
    cfg = config_of_checkpoint(config_file, [*(opts or []), *(["MODEL.WEIGHTS", weights] if weights else [])])
    store = dump(cfg, dataset, output, settings, engine, ranks)
    print(summary_table(read_json(output / SUMMARY)))
    print(f"{output}: {len(store)} cells")


@command(interrupted=CONTINUES)
def compare(
    comparison: Annotated[Path, typer.Argument(help="Comparison YAML; see examples/.", show_default=False)],
) -> None:
    """Run methods on one store and score them alike: leaderboard and report; results that are there are kept."""
    from cellfeat.workflows.comparison import run_compare

    print(f"report: {run_compare(comparison)}")


@command()
def doctor() -> None:
    """Show versions, devices, which detector engine runs and why, and the line that installs what is missing."""
    from cellfeat.workflows.doctor import report

    print(report())
