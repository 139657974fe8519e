"""Faults between two file operations, as SQLite's test files make them: a hook sees each operation before it happens.

Python tells its audit hooks of every file that is opened, renamed, removed or made. The hook counts those that write
below one folder, and at one of them kills the process or lets this and all later ones fail as a disk would.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import struct
import sys
from pathlib import Path

WRITES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (0, 1),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}  # audit event → which of its arguments are paths
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FREEING = {"os.remove", "os.rmdir", "shutil.rmtree"}  # what a full disk still lets a process do
ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "denied": errno.EACCES, "broken": errno.EIO}


class Steps:
    """A count that a child and its parent share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        return struct.unpack("<q", self._shared[:8])[0]

    def add(self) -> int:
        """Count one more: how many there were before."""
        before = self.count
        self._shared[:8] = struct.pack("<q", before + 1)
        return before


def inject(folder: Path, steps: Steps, kind: str = "", at: int = -1) -> None:
    """Count the writing operations below `folder` from now on, and make a fault at one of them.

    Those of this process and of all that it forks.

    Args:
        folder: The folder.
        steps: Counts.
        kind: "kill", or a key of ERRORS: that operation and all later ones fail.
        at: Number of the operation; negative: only count.
    """
    inside = f"{folder.resolve()}{os.sep}"

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & FLAGS and arguments[0]
            paths = arguments[:1] if writes else ()
        else:
            paths = tuple(arguments[k] for k in WRITES.get(event, ()))
        if not any(_below(path, inside) for path in paths):
            return
        number = steps.add()
        if at < 0 or number < at:
            return
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind in ERRORS and not (kind == "full" and event in FREEING):
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), str(paths[0]))

    sys.addaudithook(hook)


def _below(path: object, folder: str) -> bool:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(folder)
