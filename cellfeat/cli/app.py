"""One `cellfeat` command, a subcommand a stage: argument parsing only. Heavy imports wait for the subcommand."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cellfeat import __version__
from cellfeat.cli import methods
from cellfeat.cli.store_commands import register
from cellfeat.errors import CellfeatError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Comparable features of single white blood cells from blood-smear images of any laboratory.",
    epilog="Errors are one line and exit status 2; --debug anywhere shows the traceback.",
)

# What the disk may refuse at any write; the user can mend it, and every stage goes on where it was.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

# `KEY VALUE` pairs may look like options (a value of -1): they are passed on as they are.
PASS_ON = {"ignore_unknown_options": True}

StorePath = Annotated[Path, typer.Argument(help="Folder of a feature store.", show_default=False)]
ConfigFile = Annotated[
    str, typer.Option("--config-file", help="Detector YAML: a path, or a name of detectron_configs/.")
]
Opts = Annotated[list[str] | None, typer.Argument(help="KEY VALUE pairs that overrule the config.", show_default=False)]
Engine = Annotated[str, typer.Option(help="auto (Detectron2 where it can be imported), detectron2 or torchvision.")]
Precision = Annotated[str, typer.Option(help="fp32, or bf16: faster, a little coarser.")]
From = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Redo this stage and all after it.")]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; errors that a user can mend become one line and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    _show_progress_messages()
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="cellfeat")
    except CellfeatError as error:
        if debug:
            raise
        print(f"cellfeat: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if debug or error.errno not in DISK:
            raise
        print(f"cellfeat: {error.filename or 'disk'}: {error.strerror}; mend that and run again", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("cellfeat: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write images, models and the report.")] = Path(
        "cellfeat-demo"
    ),
    start: From = None,
) -> None:
    """Draw three synthetic laboratories and take the whole road to report.html (about six minutes on two cores)."""
    from cellfeat.workflows.demo import run_demo

    print(f"report: {run_demo(folder, start)}")


@app.command()
def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline YAML; see examples/.", show_default=False)],
    start: From = None,
) -> None:
    """Run a pipeline; stages whose results stand are skipped."""
    from cellfeat.workflows.pipeline import run_pipeline

    print(f"report: {run_pipeline(pipeline, start)}")


@app.command()
def datasets() -> None:
    """List the datasets that can be named, and whether their images are here."""
    from cellfeat.data.catalogue import data_root, dataset_names, open_dataset

    print(f"data root: {data_root()} (CELLFEAT_DATASETS)")
    for name in dataset_names():
        spec = open_dataset(name).spec
        here = "here" if (data_root() / name).is_dir() else "absent"
        print(f"{name:22} {here:7} {spec.domain:22} {spec.title}")


@app.command()
def doctor() -> None:
    """Show versions, devices, which detector engine runs and why, and the line that installs what is missing."""
    from cellfeat.workflows.doctor import report as doctor_report

    print(doctor_report())


@app.command()
def convert_weights(
    source: Annotated[str, typer.Argument(help="Weights of Detectron2, its model zoo or torchvision.")],
    target: Annotated[Path, typer.Argument(help="A .pth or .safetensors with Detectron2's names.")],
) -> None:
    """Rewrite detector weights with Detectron2's parameter names, which both engines read."""
    from cellfeat.detection.convert_weights import convert_weights as convert

    print(convert(source, target))


@app.command(context_settings=PASS_ON)
def train_net(
    opts: Opts = None,
    config_file: ConfigFile = "wbc_mask_rcnn_R_101_FPN.yaml",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUTPUT_DIR.")] = False,
    eval_only: Annotated[bool, typer.Option("--eval-only", help="Evaluate MODEL.WEIGHTS on DATASETS.TEST.")] = False,
    num_gpus: Annotated[int | None, typer.Option(help="0: CPU; else GPUs; default: one if there is one.")] = None,
    num_machines: Annotated[int, typer.Option(help="Machines that train together.")] = 1,
    machine_rank: Annotated[int, typer.Option(help="This machine's number among them.")] = 0,
    dist_url: Annotated[str, typer.Option(help="Where machines meet: tcp://HOST:PORT.")] = "auto",
    engine: Engine = "auto",
) -> None:
    """Train or evaluate a detector (Detectron2's arguments)."""
    from cellfeat.detection.train_net import scores_table, train_net

    machines = (num_machines, machine_rank, dist_url)
    print(scores_table(train_net(Path(config_file), opts or [], resume, eval_only, num_gpus, engine, *machines)))


@app.command(context_settings=PASS_ON)
def dump(
    opts: Opts = None,
    config_file: ConfigFile = "wbc_mask_rcnn_R_101_FPN.yaml",
    weights: Annotated[str | None, typer.Option(help="Detector checkpoint; default: MODEL.WEIGHTS.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Dataset of the catalogue; may be given again.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("store"),
    pool: Annotated[str, typer.Option(help="Features: mask (256×14×14), box (256×7×7) or box_head (1024).")] = "mask",
    select: Annotated[str, typer.Option(help="Cells of an image: center, score (the best) or all.")] = "center",
    score_threshold: Annotated[float, typer.Option(help="Lowest score of a cell.")] = 0.3,
    feature_dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    precision: Precision = "fp32",
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 8,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images of each dataset.")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="Processes, one a GPU (needs Detectron2).")] = 1,
    engine: Engine = "auto",
) -> None:
    """Find cells in datasets and store their features; run again after an interruption, it goes on."""
    from cellfeat.core.files import read_json
    from cellfeat.core.settings import parse
    from cellfeat.detection.config import load_config
    from cellfeat.detection.train_net import find_config
    from cellfeat.workflows.dump import SUMMARY, DumpConfig, summary_table
    from cellfeat.workflows.dump import dump as run_dump

    if not dataset:
        raise CellfeatError("--dataset: name at least one; `cellfeat datasets` lists them")
    options = {"pool": pool, "select": select, "score_threshold": score_threshold, "feature_dtype": feature_dtype}
    options |= {"precision": precision, "batch_size": batch_size, "limit": limit}
    cfg = load_config(find_config(config_file), [*(opts or []), *(["MODEL.WEIGHTS", weights] if weights else [])])
    store = run_dump(cfg, dataset, output, parse(DumpConfig, options, "dump"), engine, ranks)
    print(summary_table(read_json(output / SUMMARY)))
    print(f"{output}: {len(store)} cells")


@app.command()
def inspect(
    store: StorePath,
    montage: Annotated[Path | None, typer.Option(help="Write a picture of cells by class and domain here.")] = None,
) -> None:
    """Show what a store holds: datasets, sizes, counts, provenance."""
    from cellfeat.store import Store
    from cellfeat.store import inspect as inspection

    opened = Store(store)
    print(inspection.describe(opened))
    if montage:
        inspection.montage(opened, montage)
        print(f"montage: {montage}")


@app.command()
def explore(
    store: StorePath,
    embeddings: Annotated[list[Path] | None, typer.Option(help="Embedding file; may be given again.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the figures and of explore.html.")] = Path("exploration"),
) -> None:
    """Draw what a store holds: classes, mean images and colours by domain, maps of embeddings in 2-D and 3-D."""
    from cellfeat.reporting.explore import explore as run_explore
    from cellfeat.store import Store

    print(run_explore(Store(store), embeddings or (), output))


@app.command()
def train_ae(
    store: StorePath,
    output: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("autoencoder"),
    anchor: Annotated[
        str | None, typer.Option(help="Domain that the others are aligned to; default: the first.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="paper (as published) or transfer (carries across laboratories); options below win.")
    ] = "paper",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cells a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the domain alignment.")] = None,
    beta_warmup_epochs: Annotated[int | None, typer.Option(help="Epochs over which beta rises from 0.")] = None,
    kl_reduction: Annotated[
        str | None, typer.Option(help="mean (reference implementation) or sum (the paper's formula).")
    ] = None,
    image_fraction: Annotated[
        float | None, typer.Option(help="Share of each batch that the image loss is taken on; default: all.")
    ] = None,
    test_fraction: Annotated[float, typer.Option(help="Share of each domain that training never sees.")] = 0.2,
    precision: Precision = "fp32",
    seed: int = 0,
) -> None:
    """Train AE-CFE on a store, without labels; run again after an interruption, it goes on."""
    given = {name: value for name, value in locals().items() if name not in ("store", "output")}
    options = {name: value for name, value in given.items() if value is not None}
    from cellfeat.autoencoder import AutoencoderConfig, train_autoencoder
    from cellfeat.core.settings import parse
    from cellfeat.store import Store

    print(train_autoencoder(Store(store), output, parse(AutoencoderConfig, options, "train-ae")))


@app.command()
def embed(
    store: StorePath,
    weights: Annotated[
        Path | None, typer.Option(help="autoencoder.safetensors, for aecfe; other methods' own weights.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Default: STORE/embeddings/METHOD.h5.", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option(help="aecfe, rcnn (the detector's features, averaged) or another.")] = "aecfe",
    split: Annotated[Path | None, typer.Option(help="split.csv: methods that learn see its train part only.")] = None,
    precision: Precision = "fp32",
) -> None:
    """Embed every cell of a store."""
    from cellfeat.data.cell_ids import parts_of
    from cellfeat.data.split import read_split, stratified_split
    from cellfeat.methods import build
    from cellfeat.methods.base import embed_with
    from cellfeat.store import Store

    opened, target = Store(store), output or store / "embeddings" / f"{method.replace(':', '-')}.h5"
    if method == "aecfe" and weights is None:
        raise CellfeatError("--weights: the method aecfe needs the autoencoder.safetensors of a train-ae run")
    options = {"weights": str(weights)} if weights else {}
    chosen = build(method, options | ({"embed_precision": precision} if method == "aecfe" else {}))
    if chosen.kind != "embedding":
        raise CellfeatError(f"--method {method}: embeds nothing, it predicts classes; use `cellfeat compare`")
    table = opened.table()
    part = read_split(split) if split else stratified_split(table)
    rows = (parts_of(part, table["cell_id"]) == "train").nonzero()[0]
    print(embed_with(chosen, opened, rows, target.with_suffix(""), target))


@app.command()
def evaluate(
    store: StorePath,
    embeddings: Annotated[list[Path], typer.Argument(help="Embedding files, one a method.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder of table.csv and confusion.json.")] = Path("evaluation"),
    split: Annotated[Path | None, typer.Option(help="split.csv of the autoencoder's run.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="paper or code; may be given again; default: both.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Forests of the protocol paper.")] = 5,
    classifier: Annotated[
        list[str] | None, typer.Option(help="forest, linear or knn; may be given again; default: forest.")
    ] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Every class has the same weight in training.")] = False,
) -> None:
    """Train a classifier on each domain, test it on each: the cross-domain table."""
    from cellfeat.core.settings import parse
    from cellfeat.evaluation import EvaluationConfig
    from cellfeat.evaluation import evaluate as run_evaluation
    from cellfeat.store import Store

    options = {"runs": runs, "balanced": balanced, **({"protocols": protocol} if protocol else {})}
    options |= {"classifiers": classifier} if classifier else {}
    print(run_evaluation(Store(store), embeddings, output, parse(EvaluationConfig, options, "evaluate"), split))


@app.command()
def compare(
    comparison: Annotated[Path, typer.Argument(help="Comparison YAML; see examples/.", show_default=False)],
) -> None:
    """Run methods on one store, score them alike: leaderboard and report; what stands is not made again."""
    from cellfeat.workflows.comparison import run_compare

    print(f"report: {run_compare(comparison)}")


@app.command()
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
    from cellfeat.reporting.explain import explain as run_explain
    from cellfeat.store import Store

    print(run_explain(Store(store), fitted, output, cell or (), per_class, split))


@app.command()
def report(
    store: StorePath,
    embeddings: Annotated[list[Path], typer.Argument(help="Embedding files, one a method.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    evaluation: Annotated[Path | None, typer.Option(help="Folder that `evaluate` wrote.")] = None,
    autoencoder: Annotated[Path | None, typer.Option(help="Folder that `train-ae` wrote.")] = None,
    detector: Annotated[Path | None, typer.Option(help="OUTPUT_DIR of the detector.")] = None,
) -> None:
    """Write one self-contained page on all of it."""
    from cellfeat.reporting.report import write_report
    from cellfeat.store import Store

    print(write_report(output, Store(store), embeddings, evaluation, autoencoder, detector))


register(app)
methods.register(app)


def _show_progress_messages() -> None:
    logger = logging.getLogger("cellfeat")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


if __name__ == "__main__":
    main()
