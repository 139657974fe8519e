"""The program `cellfeat`: its commands, its errors in one line, its exit status."""

from __future__ import annotations

import errno
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cellfeat.cli import data, detection, evaluation, methods, schema, store, view, weights, workflows
from cellfeat.cli.command import AGAIN, Command
from cellfeat.cli.machine import choose_device, limit_threads, taken_out
from cellfeat.core.version import __version__
from cellfeat.data.outside import outside_paths
from cellfeat.errors import CellfeatError

# The commands of a module are listed under its title, in the order of the module.
GROUPS = {
    "Whole runs": workflows,
    "Images": data,
    "Detector": detection,
    "Feature stores": store,
    "Methods": methods,
    "Results": evaluation,
    "Page": view,
    "Weights": weights,
    "Files": schema,
}
COMMANDS: dict[str, dict[str, Command]] = {
    title: {value.name: value for value in vars(module).values() if isinstance(value, Command)}
    for title, module in GROUPS.items()
}
ALL = {name: command for commands in COMMANDS.values() for name, command in commands.items()}

INTERRUPTED = 130  # exit status of a shell's command that Ctrl-C ended
# What the user's disks may answer to any file operation. Every other OSError is a defect of cellfeat.
DISK = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EBUSY", "EDQUOT", "EEXIST", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE"),
        *("ENODEV", "ENOENT", "ENOSPC", "ENOTCONN", "ENOTDIR", "ENOTEMPTY", "ENXIO", "EPERM", "EROFS", "ESTALE"),
    )
    if hasattr(errno, name)  # Windows lacks some
}


EPILOG = """\
`cellfeat COMMAND -h` lists a command's options. An error is one line and exit status 2.

\b
Options that may stand anywhere:
  --device cpu|cuda|cuda:N  Where networks run; default: the first GPU if there is one.
  --threads N               Threads of the CPU, as OMP_NUM_THREADS.
  --debug                   Show the traceback of an error.
  --allow-outside           Let a dataset.yaml name paths outside of its folder.

\b
Environment variables:
  CELLFEAT_DATASETS         Folder of the datasets; default: datasets.
  CELLFEAT_CACHE            Folder of downloaded weights and of what trainings measured; default: the system's.
  CELLFEAT_URL_CACHE        GiB of images by URL that are kept there; default: 20.
  CELLFEAT_OFFLINE          1 forbids downloads.
  CELLFEAT_MIRROR           Folder or address from which weights are taken in place of their own address.
"""


class _Group(TyperGroup):
    """Builds a command when it is asked for: its options may need pydantic and a room of the package."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ALL)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in ALL:
            return ALL[cmd_name].build(APP)
        close = get_close_matches(cmd_name, ALL)
        remedy = f"did you mean {close[0]}?" if close else "cellfeat -h lists the commands"
        raise CellfeatError(f"{cmd_name}: no such command", remedy)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, command.summary) for name, command in commands.items()])


APP: dict[str, Any] = {
    "add_completion": False,  # of a single command
    "rich_markup_mode": None,  # plain text: rich takes longer to import than all else of `cellfeat --help`
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}
app = typer.Typer(
    cls=_Group,
    help="Comparable features of single white blood cells from blood-smear images of any laboratory.",
    epilog=EPILOG,
    **APP | {"add_completion": True},
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: with status 2 and one line for what the user can correct, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug, outside = "--debug" in arguments, "--allow-outside" in arguments
    for stream in (sys.stdout, sys.stderr):  # a sign that the terminal or a pipe cannot show is written as an escape
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    threads, arguments = taken_out(arguments, "--threads")
    device, arguments = taken_out(arguments, "--device")
    arguments = [argument for argument in arguments if argument not in ("--debug", "--allow-outside")] or ["--help"]
    try:
        limit_threads(threads)
        choose_device(device)
        with _shown_log(), outside_paths(outside):
            status = app(arguments, prog_name="cellfeat", standalone_mode=False)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (CellfeatError, typer.TyperException, OSError) as error:
        if debug or (isinstance(error, OSError) and error.errno not in DISK):
            raise
        print(f"cellfeat: {_line(error, arguments)}", file=sys.stderr)
        status = 2
    if status == INTERRUPTED:
        command = ALL.get(arguments[0])
        print(f"cellfeat: interrupted; {command.interrupted if command else AGAIN}", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _line(error: Exception, arguments: Sequence[str]) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'disk'}: {error.strerror}; correct that and run again"
    if isinstance(error, typer.TyperException):
        called = " ".join(["cellfeat", *(name for name in arguments[:1] if name in ALL)])
        message = " ".join(error.format_message().replace("Value error, ", "").split())  # pydantic's, through Typer
        return f"{message.rstrip('.')}; see {called} -h"
    return str(error)


@contextmanager
def _shown_log() -> Iterator[None]:
    """What the library logs goes to standard error; standard output is for results."""
    logger, handler = logging.getLogger("cellfeat"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
