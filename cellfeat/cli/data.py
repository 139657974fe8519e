"""Commands on datasets of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import AsJson, show


@command()
def datasets(as_json: AsJson = False) -> None:
    """List the datasets that can be named, and whether their images are here."""
    from cellfeat.data.catalogue import DatasetSpec, data_root, describe_datasets

    root, found, lines = data_root(), [], []
    for name, spec in describe_datasets().items():
        if isinstance(spec, DatasetSpec):
            state = "here" if (root / name).is_dir() else "absent"
            found.append({"name": name, "state": state, "domain": spec.domain, "title": spec.title})
            lines.append(f"{name:22} {state:7} {spec.domain:22} {spec.title}")
        else:
            found.append({"name": name, "state": "faulty", "fault": str(spec)})
            lines.append(f"{name:22} faulty  {spec}")
    show({"data_root": root, "datasets": found}, [f"data root: {root} (CELLFEAT_DATASETS)", *lines], as_json)


@command()
def check(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name that `cellfeat datasets` lists, or a folder of images, or its URL.", show_default=False
        ),
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Draw some images with the outlines of their reference cells into this PNG.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Write a card of the dataset here, as the Hugging Face hub takes it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a dataset holds: images, labels, groups, reference cells, and what is not used and why."""
    from cellfeat.core.files import write_text
    from cellfeat.data.cards import dataset_card
    from cellfeat.data.catalogue import data_root, dataset_names, open_dataset
    from cellfeat.data.paths import open_paths
    from cellfeat.data.urls import is_url
    from cellfeat.reporting.dataset_sheet import draw_dataset, examine_dataset

    folder = is_url(dataset) or (Path(dataset).is_dir() and dataset not in dataset_names(data_root()))
    (opened,) = open_paths([dataset]) if folder else [open_dataset(dataset)]
    found: dict[str, Any] = {}
    for facts, line in examine_dataset(opened):  # a line at a time: reading masks may take long, or end in an error
        found |= facts
        if not as_json:
            print(line, flush=True)
    if picture:
        found["picture"] = draw_dataset(opened, picture)
    if card:
        write_text(card, dataset_card(opened))
        found["card"] = card
    show(found, [f"{what}: {found[what]}" for what in ("picture", "card") if what in found], as_json)


@command()
def init(
    path: Annotated[Path, typer.Argument(help="A folder of images of one site.", show_default=False)],
) -> None:
    """Describe a folder of images: write dataset.yaml and codes.csv from what it holds, and a preview picture."""
    from cellfeat.data.new_dataset import init_dataset
    from cellfeat.reporting.dataset_sheet import PREVIEW, describe_dataset, draw_dataset

    dataset, remarks = init_dataset(path)
    print(*(f"found: {remark}" for remark in remarks), *describe_dataset(dataset), sep="\n", flush=True)
    print(f"preview: {draw_dataset(dataset, path / PREVIEW)}")
    print(f"written: {path / 'dataset.yaml'}; look through it, then: cellfeat dump {path}")
