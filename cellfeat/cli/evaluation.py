"""Commands that score embeddings and draw results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import (
    AsJson,
    EmbeddingFiles,
    EmbeddingFilesIfAny,
    Jobs,
    Labels,
    MoreEmbeddings,
    Ray,
    StorePath,
    show,
)
from cellfeat.cli.writing import one_writer


@command(settings="cellfeat.evaluation:EvaluationConfig")
def evaluate(
    store: StorePath,
    embeddings: EmbeddingFiles,
    settings: Any,
    output: Annotated[Path, typer.Option(help="Folder of table.csv and confusion.json.")] = Path("evaluation"),
    split: Annotated[Path | None, typer.Option(help="split.csv of the autoencoder's run.")] = None,
    labels: Labels = None,
    jobs: Jobs = 1,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on each domain, test it on each: the cross-domain table."""
    from cellfeat.core.files import read_json
    from cellfeat.evaluation import evaluate
    from cellfeat.store import Store

    opened = Store(store)
    with one_writer(output):
        written = evaluate(opened, embeddings, output, settings, split, labels, jobs, ray)
    show({"file": written, **read_json(written)}, [str(written)], as_json)


@command()
def report(
    store: StorePath,
    embeddings: EmbeddingFilesIfAny = None,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    evaluation: Annotated[Path | None, typer.Option(help="Folder that `evaluate` wrote.")] = None,
    comparison: Annotated[Path | None, typer.Option(help="Output folder of `compare`, in place of these.")] = None,
    autoencoder: Annotated[Path | None, typer.Option(help="Folder that `train-ae` wrote.")] = None,
    detector: Annotated[Path | None, typer.Option(help="OUTPUT_DIR of the detector.")] = None,
) -> None:
    """Write one self-contained page on what there is: a store, its embeddings, an evaluation or a comparison."""
    from cellfeat.reporting.material import gather
    from cellfeat.reporting.report import write_report
    from cellfeat.store import Store

    page = write_report(
        output,
        gather(
            Store(store),
            embeddings or (),
            evaluation=evaluation,
            comparison=comparison,
            autoencoder=autoencoder,
            detector=detector,
        ),
    )
    print(page)


@command()
def explore(
    store: StorePath,
    embeddings: MoreEmbeddings = None,
    output: Annotated[Path, typer.Option(help="Folder of the figures and of explore.html.")] = Path("exploration"),
) -> None:
    """Draw what a store holds: classes, mean images and colours by domain, maps of embeddings in 2-D and 3-D."""
    from cellfeat.reporting.explore import explore
    from cellfeat.store import Store

    opened = Store(store)
    with one_writer(output):
        print(explore(opened, embeddings or (), output))


@command()
def profile(
    store: StorePath,
    fitted: Annotated[
        Path,
        typer.Argument(
            help="Folder that psd was fitted in; of a comparison: methods/psd/seed-0/fit.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the tables and figures.")] = Path("profile"),
    beside: Annotated[
        list[Path] | None, typer.Option(help="Embedding file of another method, for the F1 bars; may be given again.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Cells of this domain alone.")] = None,
) -> None:
    """Show profiles as WBC-Profiler does: signatures, reconstructions, t-SNE, F1 and confusions of a linear machine."""
    from cellfeat.reporting.profiles import profile
    from cellfeat.store import Store

    opened = Store(store)
    with one_writer(output):
        print(profile(opened, fitted, output, beside or (), domain))


@command()
def explain(
    store: StorePath,
    fitted: Annotated[
        Path,
        typer.Argument(
            help="Folder that mdd, resnext or finetune:… was fitted in; of a comparison: methods/…/fit.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the pictures and of sheet.png.")] = Path("explanation"),
    cell: Annotated[
        list[str] | None, typer.Option(help="Cell id; may be given again; default: some of every class and domain.")
    ] = None,
    per_class: Annotated[int, typer.Option(help="Most cells of one class in one domain.")] = 2,
    split: Annotated[Path | None, typer.Option(help="split.csv: only cells of its test part are chosen.")] = None,
) -> None:
    """Show where a fitted classifier looks: each cell beside a heat map of what spoke for the class it was given."""
    from cellfeat.reporting.explain import explain
    from cellfeat.store import Store

    opened = Store(store)
    with one_writer(output):
        print(explain(opened, fitted, output, cell or (), per_class, split))
