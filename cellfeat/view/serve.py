"""Running the server: a free port, a link to open, and an end at Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from cellfeat.errors import CellfeatError, MissingRequirement, one_line
from cellfeat.view.annotations import AnnotationLog
from cellfeat.view.data import Cells
from cellfeat.view.security import MIN_PASSWORD, Access, is_loopback

if TYPE_CHECKING:
    from cellfeat.view.uploads import Uploads


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
        CellfeatError: The address is not this machine's, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CellfeatError(f"--host {host}: {one_line(error)}", "give an address of this machine") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise CellfeatError(f"{host}, port {port}: {error.strerror}", "choose another --port") from None
    return bound


def check_password(host: str, password: str) -> None:
    """Refuse to listen beyond this machine without a good password.

    Raises:
        CellfeatError: There is none, or it is short.
    """
    if not is_loopback(host) and len(password) < MIN_PASSWORD:
        what = f"--host {host}: everyone who reaches this machine could see the store"
        raise CellfeatError(what, f"give a password of {MIN_PASSWORD} characters or more in CELLFEAT_VIEW_PASSWORD")


def serve(
    cells: Cells,
    host: str,
    port: int,
    password: str,
    tell: Callable[[Access], None],
    log: AnnotationLog | None = None,
    user: str = "",
    uploads: Uploads | None = None,
) -> None:
    """Show a store until the process is interrupted.

    Args:
        cells: What is shown.
        host, port: Where to listen.
        password: Asked for beyond this machine.
        tell: Called once the server listens.
        log, user, uploads: As of `application`.

    Raises:
        CellfeatError: `listen` or `check_password` refuses.
        MissingRequirement: FastAPI or uvicorn is not installed.
    """
    check_password(host, password)
    try:
        import uvicorn

        from cellfeat.view.server import application
    except ModuleNotFoundError as error:
        raise MissingRequirement(f"{error.name}: not installed", "pip install 'cellfeat[view]'", "package") from None
    with listen(host, port) as bound:
        access = Access(host, bound.getsockname()[1], "" if is_loopback(host) else password)
        config = uvicorn.Config(
            application(cells, access, log, user, uploads),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        tell(access)
        uvicorn.Server(config).run(sockets=[bound])
