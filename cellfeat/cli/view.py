"""Commands that show a store in the browser."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import AsJson, ConfigFile, Engine, MoreEmbeddings, StorePath, show
from cellfeat.errors import CellfeatError


@command()
def view(
    store: StorePath,
    embeddings: MoreEmbeddings = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="File of a fitted classifier's predictions; may be given again.")
    ] = None,
    beside: Annotated[list[Path] | None, typer.Option(help="Another store, shown with it; may be given again.")] = None,
    fitted: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that mdd, resnext or finetune:… was fitted in: shows where it looks; may be given again."
        ),
    ] = None,
    upload: Annotated[
        bool,
        typer.Option(
            "--upload", help="Pictures can be sent, to be named by the first --fitted; nothing of them is kept."
        ),
    ] = False,
    weights: Annotated[str | None, typer.Option(help="With --upload: the detector's checkpoint.")] = None,
    config_file: ConfigFile = None,
    engine: Engine = "auto",
    domain: Annotated[str | None, typer.Option(help="With --upload: laboratory of the pictures; mdd needs it.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine CELLFEAT_VIEW_PASSWORD has to be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Labels, flags and notes can be given; they are kept in --log.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Default: STORE/annotations/USER.jsonl.", show_default=False)] = None,
    user: Annotated[str | None, typer.Option(help="Who annotates; default: the login name.")] = None,
    password: Annotated[str, typer.Option(envvar="CELLFEAT_VIEW_PASSWORD", hidden=True)] = "",
) -> None:
    """Show a store in the browser: maps of its embeddings, its cells, one cell with its neighbours."""
    from cellfeat.core.files import slug
    from cellfeat.store import Store
    from cellfeat.view.annotations import AnnotationLog
    from cellfeat.view.data import Cells
    from cellfeat.view.security import Access
    from cellfeat.view.serve import check_password, serve

    check_password(host, password)
    if beside and annotate:
        raise CellfeatError("--annotate: labels are of one store", "leave out --beside")
    if upload and not fitted:
        raise CellfeatError("--upload: no network names the cells", "give the folder of one with --fitted")
    opened = Store(store)
    paths = [store, *(beside or ())]
    files = embeddings or [file for path in paths for file in sorted((path / "embeddings").glob("*.h5"))]
    cells = Cells([opened, *map(Store, beside or ())], files, predictions or (), fitted or ())
    name = user or getpass.getuser()
    target = log or store / "annotations" / f"{slug(name)}.jsonl"
    written = AnnotationLog(target, opened.digest, cells.labels) if annotate else None

    uploads = None
    if upload and fitted:
        from functools import partial

        from cellfeat.view.own_process import OwnProcess
        from cellfeat.view.uploads import SECONDS, Uploads
        from cellfeat.workflows.predict import predict

        options: dict[str, Any] = {"reference": opened, "domain": domain, "config_file": config_file, "engine": engine}
        uploads = Uploads(OwnProcess(partial(predict, method_folder=fitted[0], weights=weights, **options), SECONDS))

    def tell(access: Access) -> None:
        print(f"{' and '.join(map(str, paths))}: {len(cells)} cells, {len(files)} embeddings. Ctrl-C ends it.")
        if access.password:
            print(f"Open to everyone who reaches {access.host} and has the password: all crops, labels and metadata.")
            print("Nothing is encrypted: prefer an SSH tunnel to 127.0.0.1, or a proxy with TLS before it.")
        print(f"Labels, flags and notes go to {target}." if annotate else "Nothing can be changed.")
        if uploads is not None:
            print("Pictures can be sent: their cells are named, and nothing of them is kept.")
        print(access.link, flush=True)

    serve(cells, host, port, password, tell, written, name, uploads)


@command()
def annotate(
    store: StorePath,
    apply: Annotated[
        list[Path] | None, typer.Option(help="Log of `cellfeat view --annotate`; may be given again.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Table of the labels.")] = Path("labels.csv"),
    as_json: AsJson = False,
) -> None:
    """Write the labels that people gave to a table, and show where they differ; the store stays as it is."""
    from cellfeat.store import Store
    from cellfeat.view.agreement import apply as apply_logs

    logs = apply or sorted((store / "annotations").glob("*.jsonl"))
    if not logs:
        raise CellfeatError(f"{store}: has no annotation log", "give one with --apply")
    changed, differ, pairs = apply_logs(Store(store), logs, output)
    lines = [*map(str, pairs), f"{output}: {changed} labels differ from the store's"]
    if differ:
        table = output.with_name("disagreements.csv")
        lines.append(f"{table}: {differ} cells on which people differ; they keep their label")
    show({"changed": changed, "differ": differ, "pairs": [asdict(pair) for pair in pairs]}, lines, as_json)
