"""Commands that take several stages at once."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from cellfeat.cli.command import CONTINUES, command
from cellfeat.cli.options import AsJson, ConfigFile, DryRun, Engine, FromStage, Jobs, Log, Ray, show
from cellfeat.errors import CellfeatError


@command(interrupted=CONTINUES)
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write images, models and the report.")] = Path(
        "cellfeat-demo"
    ),
    start: FromStage = None,
    page: Annotated[
        bool | None,
        typer.Option("--page/--no-page", help="Show the cells in the browser in the end; default: in a terminal."),
    ] = None,
) -> None:
    """Draw three synthetic laboratories, take all steps to report.html, and show the cells in the browser."""
    from cellfeat.workflows.demo import embeddings_of, run_demo, store_of

    print(f"report: {run_demo(folder, start)}", flush=True)
    store, embeddings = store_of(folder), embeddings_of(folder)
    if sys.stdout.isatty() if page is None else page:
        show_in_browser(store, embeddings)
    else:
        print(f"in the browser: cellfeat view {store} {' '.join(f'--embeddings {path}' for path in embeddings)}")


def show_in_browser(store: Path, embeddings: list[Path]) -> None:
    """As `cellfeat view`, where its packages are installed; else say how to install them."""
    from cellfeat.cli.view import view

    if any(find_spec(module) is None for module in ("fastapi", "uvicorn")):
        print("the page of the cells needs: pip install 'cellfeat[view]'")
        return
    view.function(store, embeddings)


@command(interrupted=CONTINUES)
def run(
    pipeline: Annotated[
        Path, typer.Argument(help="Pipeline YAML; `cellfeat schema pipeline` lists its keys.", show_default=False)
    ],
    start: FromStage = None,
    dry_run: DryRun = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline from images to a report; stages that are already done are skipped."""
    from cellfeat.core.tracking import tracker, tracking
    from cellfeat.workflows.pipeline import plan_pipeline, run_pipeline

    if dry_run:
        stages = plan_pipeline(pipeline, start)
        show(stages, (f"{stage['stage']:12} {stage['state']:10} {stage['work']}" for stage in stages), as_json)
        return
    with tracking(*tracker(log)):
        report = run_pipeline(pipeline, start)
    show({"report": report}, [f"report: {report}"], as_json)


@command(settings="cellfeat.workflows.dump_config:DumpConfig", key_values=True, interrupted=CONTINUES)
def dump(
    settings: Any,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH or KEY VALUE",
            help="Folders, images, globs or URLs of them; then keys of the detector's config and their values.",
        ),
    ] = None,
    config_file: ConfigFile = None,
    weights: Annotated[str | None, typer.Option(help="Detector checkpoint; default: MODEL.WEIGHTS.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Dataset of the catalogue; may be given again.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("store"),
    ranks: Annotated[int, typer.Option(min=1, help="Processes of this machine, one a GPU.")] = 1,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N|auto",
            help="Only part K of N, for `cellfeat join`; auto: of a SLURM array's task or of torchrun's process.",
        ),
    ] = None,
    ray: Ray = None,
    engine: Engine = "auto",
    pictures: Annotated[
        bool, typer.Option(help="Also write a table, pictures and a page of the cells into the store's folder cells/.")
    ] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Find cells in images and store their features; run again after an interruption, it continues."""
    from cellfeat.cli.options import split_key_values
    from cellfeat.core.files import read_json
    from cellfeat.data.catalogue import open_dataset
    from cellfeat.data.paths import check_datasets, open_paths
    from cellfeat.detection.checkpoint_config import config_of_checkpoint
    from cellfeat.detection.device import take_gpu
    from cellfeat.reporting.cells import FOLDER as CELLS
    from cellfeat.reporting.cells import write_cells
    from cellfeat.workflows.dump import dump
    from cellfeat.workflows.dump_blocks import dump_part, part_of
    from cellfeat.workflows.dump_plan import dump_plan_lines, plan_dump
    from cellfeat.workflows.dump_summary import SUMMARY, summary_table
    from cellfeat.workflows.dumper import Dumper

    if sum((part is not None, ranks > 1, ray is not None)) > 1:
        raise CellfeatError("--part, --ranks and --ray each divide the dump", "give one of them")
    chosen = None if part is None else part_of(part, os.environ)
    paths, opts = split_key_values(paths or [])
    if not dataset and not paths:
        raise CellfeatError("no images", "name a folder of images, or --dataset NAME that `cellfeat datasets` lists")
    cfg = config_of_checkpoint(config_file, [*opts, *(["MODEL.WEIGHTS", weights] if weights else [])])
    datasets = [*open_paths(paths), *(open_dataset(name) for name in dataset or [])]
    if paths:
        check_datasets(datasets)
    if dry_run:
        planned = plan_dump(cfg, datasets, output, settings)
        show(planned, dump_plan_lines(planned), as_json)
        return
    if chosen:
        take_gpu(int(os.environ.get("LOCAL_RANK", 0)))
        dumper = Dumper(cfg, datasets, settings, engine)
        blocks, name = dump_part(dumper, output, chosen), f"{chosen[0]}/{chosen[1]}"
        done = f"{output}: part {name} is done, {blocks} of {len(dumper.blocks)} blocks"
        lines = [done, f"when all parts are: cellfeat join {output}"]
        show({"store": output, "part": name, "blocks": blocks}, lines, as_json)
        return
    store = dump(cfg, datasets, output, settings, engine, ranks, ray=ray)
    summary, page = read_json(output / SUMMARY), None
    if pictures:
        records = {record.image_id: record for one in datasets for record in one.records()}
        page = write_cells(store, records, output / CELLS)
    lines = [summary_table(summary), f"{output}: {len(store)} cells", *([f"look at {page}"] if page else [])]
    show({"store": output, "cells": len(store), "page": page, "domains": summary}, lines, as_json)


@command(interrupted=CONTINUES)
def join(
    store: Annotated[Path, typer.Argument(help="Folder of the store: the --output of its parts.", show_default=False)],
    elsewhere: Annotated[
        list[Path] | None, typer.Argument(help="The --output of parts that lie on other disks.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put the parts of a dump (`dump --part`) together: the store of a single process, row for row."""
    from cellfeat.core.files import as_written, read_json
    from cellfeat.workflows.dump_join import join_blocks
    from cellfeat.workflows.dump_summary import SUMMARY, summary_table

    joined = join_blocks(store, elsewhere or [])
    with as_written(store / SUMMARY, "run the dump again"):
        summary = read_json(store / SUMMARY)
        lines = [summary_table(summary), f"{store}: {len(joined)} cells"]
    show({"store": store, "cells": len(joined), "domains": summary}, lines, as_json)


@command(interrupted=CONTINUES)
def compare(
    comparison: Annotated[
        Path, typer.Argument(help="Comparison YAML; `cellfeat schema compare` lists its keys.", show_default=False)
    ],
    jobs: Jobs = 1,
    ray: Ray = None,
    dry_run: DryRun = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Run methods on one store and score them alike: leaderboard and report; results that are there are kept."""
    from cellfeat.core.tracking import tracker, tracking
    from cellfeat.workflows.comparison import plan_compare, run_compare

    if dry_run:
        methods = plan_compare(comparison)
        show(methods, (f"{one['method']:24} {one['state']}" for one in methods), as_json)
        return
    with tracking(*tracker(log)):
        report = run_compare(comparison, jobs, ray)
    show({"report": report}, [f"report: {report}"], as_json)


@command()
def doctor(as_json: AsJson = False) -> None:
    """Show versions, devices, which detector engine runs and why, and the line that installs what is missing."""
    from cellfeat.workflows.doctor import examine, report

    found = examine()
    show(found, report(found), as_json)
