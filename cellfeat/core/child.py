"""Work on files from elsewhere in a child process, so that a forged file ends the child and not this process.

The child is an isolated Python: no PYTHON* variable reaches it, and it imports nothing from the working directory,
where an unpacked download may hold a module of a well-known name. It bounds its own memory and processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from cellfeat.errors import CellfeatError

_START = "import importlib, sys; sys.path[:0] = sys.argv[2:]; importlib.import_module(sys.argv[1]).main()"


def start_child(
    module: str, packages: Sequence[str] = ("numpy",), environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `main()` of a module of cellfeat in an isolated Python, with pipes at its standard input and output.

    Args:
        module: Full name of the module.
        packages: Packages that the module needs; the child takes them from where this process has them.
        environment: Variables to set beside those of this process.

    Raises:
        CellfeatError: No child can be started here.
    """
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})}  # threads take address space
    roots = dict.fromkeys(_root(name) for name in ("cellfeat", *packages))
    try:
        if not sys.executable:
            raise OSError("the path of Python is unknown")
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _START, module, *roots],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=variables,
        )
    except OSError as error:
        raise CellfeatError(
            f"no process can be started to look at files from elsewhere ({error})", "run a Python that can"
        ) from None


def ended(status: int) -> str:
    """How a child with this exit status ended, for a message."""
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def limit_memory(size: int) -> None:
    """Bound the address space of this process (bytes) and let it leave no core file; Windows has no such limits."""
    with suppress(ImportError, ValueError, OSError):  # a lower limit is in force
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if size < 1 << 62:
            resource.setrlimit(resource.RLIMIT_AS, (size, size))


def limit_time(seconds: int) -> None:
    """Let this process take so many seconds of processor time from now on; Windows has no such limits."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _root(package: str) -> str:
    """The folder from which this process imported a package."""
    file = import_module(package).__file__
    assert file is not None
    return str(Path(file).resolve().parents[1])
