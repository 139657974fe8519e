"""Commands that look after stores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import AsJson, Labels, MoreEmbeddings, StorePath, show
from cellfeat.errors import CellfeatError

Output = Annotated[Path, typer.Option(help="Folder of the new store.", show_default=False)]


@command()
def inspect(
    store: StorePath,
    montage: Annotated[Path | None, typer.Option(help="Write a picture of cells by class and domain here.")] = None,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Also the arrays with their layout, and what the store was made from.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a store holds: cells by class and domain, detection rate, images that could not be read."""
    from cellfeat.store import Store
    from cellfeat.store import inspect as inspection

    opened = Store(store)
    if montage:
        inspection.montage(opened, montage)
    lines = [inspection.describe(opened, provenance), *([f"montage: {montage}"] if montage else [])]
    show(inspection.facts(opened, provenance) if as_json else {}, lines, as_json)


@command()
def verify(
    store: StorePath,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged shards aside; the next dump writes them again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file and value of a store; problems exit with 1."""
    from cellfeat.store import Store
    from cellfeat.store.repair import repair as run_repair

    repaired = list(run_repair(store).lines()) if repair else []
    problems = Store(store).verify(progress=True)
    lines = [*repaired, *(problems or ["verified: every shard is what the manifest says"])]
    show({"repaired": repaired, "problems": problems}, lines, as_json)
    raise typer.Exit(1 if problems else 0)


@command()
def diff(
    first: StorePath,
    second: StorePath,
    tolerance: Annotated[float, typer.Option(help="Largest difference that does not count.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compare two stores cell by cell; differences exit with 1."""
    from cellfeat.store import Store
    from cellfeat.store.diff import diff

    found = diff(Store(first), Store(second), tolerance)
    show(asdict(found), found.lines(), as_json)
    raise typer.Exit(1 if found else 0)


@command()
def merge(stores: Annotated[list[Path], typer.Argument(help="Stores.", show_default=False)], output: Output) -> None:
    """Write several stores of one layout as one; embeddings that were made alike go along."""
    from cellfeat.store import Store
    from cellfeat.store.copying import merge

    print(merge([Store(store) for store in stores], output))


@command()
def subset(
    store: StorePath,
    output: Output,
    domain: Annotated[list[str] | None, typer.Option(help="Keep this site; may be given again.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Keep this class; may be given again.")] = None,
    score: Annotated[float | None, typer.Option(help="Lowest score.")] = None,
) -> None:
    """Write a part of a store as a new one; cells keep their names, and embeddings go along."""
    from cellfeat.store import Store
    from cellfeat.store.copying import subset

    print(subset(Store(store), output, domain or None, label or None, score))


@command()
def export(
    store: StorePath,
    output: Annotated[
        Path,
        typer.Option(help="File .h5ad, .parquet, .csv, .npz, .h5sc or .json (COCO), or a folder.", show_default=False),
    ],
    to: Annotated[
        Literal["h5ad", "parquet", "csv", "npz", "cytomining", "h5sc", "genbloom", "coco", "geojson", "yolo", "labels"]
        | None,
        typer.Option(
            help="geojson (QuPath), yolo, labels or genbloom (a file a patient) for a folder, cytomining for Parquet "
            "with Metadata_ columns; else the output's suffix tells the format."
        ),
    ] = None,
    embeddings: MoreEmbeddings = None,
    crop_margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the crops, where the store does not tell it.")
    ] = None,
    labels: Labels = None,
) -> None:
    """Write a store's table and embeddings for scanpy, pandas or R, its pictures for scPortrait, or its detections."""
    from cellfeat.store import Store
    from cellfeat.store.export import export

    opened = Store(store).with_labels(labels) if labels else Store(store)
    print(export(opened, output, to, embeddings or [], crop_margin))


@command()
def import_aecfe(
    features: Annotated[Path, typer.Argument(help="Gzip-pickled features of one dataset.", show_default=False)],
    output: Output,
    images: Annotated[list[Path] | None, typer.Option(help="Gzip-pickled images; may be given again.")] = None,
    domain: Annotated[str, typer.Option(help="Name of the site.")] = "",
    vocabulary: Annotated[str, typer.Option(help="Of its labels; see `cellfeat.data.vocabulary`.")] = "matek-19",
) -> None:
    """Make a store of the AE-CFE reference implementation's files, without running what is in them."""
    from cellfeat.store.import_aecfe import import_aecfe

    if not images:
        raise CellfeatError("--images: crops are cut from the images; give the gzip-pickled image files")
    print(import_aecfe(features, images, output, domain or features.name.split(".")[0], vocabulary))
