"""Commands that learn from a store and embed it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellfeat.cli.command import AGAIN, CONTINUES, command
from cellfeat.cli.options import AsJson, ConfigFile, Engine, Labels, Log, StorePath, show
from cellfeat.cli.writing import one_writer
from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    from cellfeat.methods.registry import MethodInfo

WIDTH = 100  # columns of the description of a setting


@command(settings="cellfeat.autoencoder.config:AutoencoderConfig", interrupted=CONTINUES)
def train_ae(
    store: StorePath,
    settings: Any,
    output: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("autoencoder"),
    log: Log = None,
) -> None:
    """Train AE-CFE on a store, without labels; run again after an interruption, it continues."""
    from cellfeat.autoencoder import train_autoencoder
    from cellfeat.core.tracking import tracker, tracking
    from cellfeat.store import Store

    opened = Store(store)
    with one_writer(output), tracking(*tracker(log)):
        print(train_autoencoder(opened, output, settings))


@command(interrupted=CONTINUES)
def embed(
    store: StorePath,
    weights: Annotated[
        Path | None, typer.Option(help="autoencoder.safetensors, for aecfe; other methods' own weights.")
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="Take published weights, downloaded once; of resnet, and of dinobloom with model=s."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Default: STORE/embeddings/METHOD.h5.", show_default=False)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="A name that `cellfeat methods` lists; default: wbc-ssl, or aecfe where --weights is given."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method, see `cellfeat methods --method`."),
    ] = None,
    split: Annotated[Path | None, typer.Option(help="split.csv: methods that learn see its train part only.")] = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of aecfe; bf16 is faster.")] = "fp32",
    log: Log = None,
) -> None:
    """Embed every cell of a store; without --method and --weights by the built-in embedding."""
    from cellfeat.core.tracking import tracker, tracking
    from cellfeat.data.cell_ids import parts_of
    from cellfeat.data.split import read_split, stratified_split
    from cellfeat.methods import build
    from cellfeat.methods.base import embed_with
    from cellfeat.store import Store

    method = method or ("aecfe" if weights else "wbc-ssl")
    opened, target = Store(store), output or store / "embeddings" / f"{method.replace(':', '-')}.h5"
    if method == "aecfe" and weights is None:
        raise CellfeatError("--weights: the method aecfe needs the autoencoder.safetensors of a train-ae run")
    options = _values(settings or []) | ({"weights": str(weights)} if weights else {})
    options |= {"pretrained": True} if pretrained else {}
    chosen = build(method, options | ({"embed_precision": precision} if method == "aecfe" else {}))
    if chosen.kind != "embedding":
        raise CellfeatError(f"--method {method}: embeds nothing, it predicts classes; use `cellfeat compare`")
    table = opened.table()
    part = read_split(split) if split else stratified_split(table)
    rows = (parts_of(part, table["cell_id"]) == "train").nonzero()[0]
    fitted = target.with_suffix("")
    with one_writer(fitted), tracking(*tracker(log)):
        print(embed_with(chosen, opened, rows, fitted, target))


def _values(settings: list[str]) -> dict[str, Any]:
    """`key=value` texts as a mapping; values are read as YAML, so that 0.5, true and [a, b] are what they look like."""
    from cellfeat.core.yaml_text import parse_yaml

    found = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise CellfeatError(f"--set {text}: has no value", "write KEY=VALUE")
        found[key] = parse_yaml(value, f"--set {key}")
    return found


@command(interrupted=AGAIN)
def predict(
    cells: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE or PICTURES", help="A feature store; or picture files, folders, globs.", show_default=False
        ),
    ],
    train: Annotated[
        list[str] | None,
        typer.Option(help="Domain of STORE whose labelled cells name those of the others; may be given again."),
    ] = None,
    fitted: Annotated[
        Path | None,
        typer.Option(help="Folder that mdd, resnext or finetune:… was fitted in; of a comparison: methods/…/fit."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The table; with --train also a .h5 of its name, for `view`.")] = Path(
        "predictions.csv"
    ),
    embeddings: Annotated[
        Path | None, typer.Option(help="With --train: an embeddings file; default: the built-in embedding.")
    ] = None,
    labels: Labels = None,
    classifier: Annotated[Literal["forest", "linear", "knn"], typer.Option(help="With --train.")] = "forest",
    weights: Annotated[str | None, typer.Option(help="Of pictures: the detector's checkpoint.")] = None,
    config_file: ConfigFile = None,
    engine: Engine = "auto",
    reference: Annotated[
        Path | None, typer.Option(help="With --fitted: the store of the fit; its nearest cells are named.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Laboratory that the pictures are of; mdd needs it.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="With --fitted: folder for each cell beside its heat map.")
    ] = None,
) -> None:
    """Name cells: those of sites without labels from a site with labels, or those of pictures by a fitted network."""
    from cellfeat.store import Store
    from cellfeat.store.schema import MANIFEST

    if bool(train) == bool(fitted):
        raise CellfeatError("predict: give either --train or --fitted", "--train names sites of a store from another")
    is_store = len(cells) == 1 and (Path(cells[0]) / MANIFEST).is_file()
    if train:
        from cellfeat.workflows.naming import name_cells, write_naming

        if not is_store:
            raise CellfeatError(f"{cells[0]}: no feature store", "--train names cells of a store; dump the pictures")
        naming = name_cells(Store(cells[0]), train, embeddings, labels, classifier)
        file = write_naming(naming, output)
        print("\n".join([*naming.lines(), f"{output}, and {file} for `cellfeat view --predictions`"]))
        return
    from cellfeat.workflows.predict import predict, predict_store, write_prediction

    assert fitted is not None
    known = Store(reference) if reference else None
    asked: dict[str, Any] = {"reference": known, "heat_maps": pictures is not None}
    if is_store:
        found = predict_store(Store(cells[0]), fitted, **asked)
    else:
        found = predict(cells, fitted, weights, domain=domain, config_file=config_file, engine=engine, **asked)
    write_prediction(found, output, known, pictures)
    print(f"{output}: {len(found.table)} cells")


@command()
def methods(
    method: Annotated[
        str | None, typer.Option(help="Show all settings of this method, such as psd or timm:<model>.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods that embed cells or predict classes: kind, title and needs; with --method its settings."""
    from cellfeat.methods import describe, list_methods

    found = [describe(method)] if method else list_methods()
    show([asdict(info) for info in found], _lines(found, bool(method)), as_json)


def _lines(found: Sequence[MethodInfo], with_settings: bool) -> Iterator[str]:
    for info in found:
        needs = f" (needs {', '.join(info.needs)})" if info.needs else ""
        yield f"{info.name:18} {info.kind:11} {info.title}{needs}"
        for setting in info.settings if with_settings else ():
            default = f"default {setting.default}" if setting.default else "has to be given"
            yield f"\n  {setting.name}: {setting.values}, {default}"
            yield textwrap.indent(textwrap.fill(setting.description, WIDTH - 4), "    ")
