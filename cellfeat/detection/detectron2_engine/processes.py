"""Detectron2's launcher, with errors in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from detectron2.engine import launch
from torch.multiprocessing import ProcessRaisedException

from cellfeat.core.tracking import Callback, callbacks, tracking
from cellfeat.data.outside import outside_allowed, outside_paths
from cellfeat.errors import CellfeatError


def launch_processes(
    main: Callable[..., None],
    number: int,
    *arguments: Any,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Run `main(*arguments)` in `number` processes of each machine; where there is one in all, it is this process.

    Args:
        main: A function of a module: processes are spawned and import it.
        number: Processes of a machine.
        arguments: Of `main`.
        num_machines: Machines on which the same is called.
        machine_rank: This machine's number among them.
        dist_url: Where they meet, tcp://HOST:PORT; "auto": a free port of this machine.

    Raises:
        CellfeatError: As `main` raised it, in whichever process.
    """
    try:
        told = (outside_allowed(), callbacks(), main, *arguments)
        launch(_run, number, num_machines, machine_rank, dist_url, told)
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        if ours := re.match(r"cellfeat\.[\w.]+: (.*)", last):
            raise CellfeatError(ours[1]) from None
        raise


def _run(outside: bool, called: tuple[Callback, ...], main: Callable[..., None], *arguments: Any) -> None:
    """`main` in a new process, which does not know what the command line allowed and what is called for numbers."""
    with outside_paths(outside), tracking(*(() if callbacks() else called)):  # one process of all is this one
        main(*arguments)
