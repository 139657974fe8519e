"""Commands that show a store in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellfeat.cli.command import command
from cellfeat.cli.options import MoreEmbeddings, StorePath


@command()
def view(
    store: StorePath,
    embeddings: MoreEmbeddings = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="File of a fitted classifier's predictions; may be given again.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine CELLFEAT_VIEW_PASSWORD has to be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    password: Annotated[str, typer.Option(envvar="CELLFEAT_VIEW_PASSWORD", hidden=True)] = "",
) -> None:
    """Show a store in the browser: maps of its embeddings, its cells, one cell with its neighbours."""
    from cellfeat.store import Store
    from cellfeat.view.data import Cells
    from cellfeat.view.security import Access
    from cellfeat.view.serve import check_password, serve

    check_password(host, password)
    opened = Store(store)
    files = embeddings or sorted((store / "embeddings").glob("*.h5"))
    cells = Cells(opened, files, predictions or ())

    def tell(access: Access) -> None:
        print(f"{store}: {len(cells)} cells, {len(files)} embeddings. Ctrl-C ends it.")
        if access.password:
            print(f"Open to everyone who reaches {access.host} and has the password: all crops, labels and metadata.")
            print("Nothing is encrypted: prefer an SSH tunnel to 127.0.0.1, or a proxy with TLS before it.")
        print(access.link, flush=True)

    serve(cells, host, port, password, tell)
