"""One writer of an output folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder that a command writes; of processes that work together, the first holds it.

    Args:
        folder: Made if absent.

    Raises:
        Busy: Another command is writing there.
        CannotWrite: The folder cannot be written to.
    """
    from cellfeat.core.processes import is_first_process

    if not is_first_process():
        yield
        return
    from cellfeat.core.lock import FolderLock

    with FolderLock(folder):
        yield
