"""May a dataset.yaml name paths outside of its folder? Only where the user says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST = 4096  # characters of a path, Linux's PATH_MAX

_outside: ContextVar[bool] = ContextVar("outside", default=False)


@contextmanager
def outside_paths(allowed: bool = True) -> Iterator[None]:
    """Whether descriptions that are read in this block may name paths outside of the dataset's folder.

    They may not by default: a dataset.yaml may come from a stranger's archive, and what it names is read and copied
    into stores. Links that the user made within the folder are followed.
    """
    token = _outside.set(allowed)
    try:
        yield
    finally:
        _outside.reset(token)


def outside_allowed() -> bool:
    """Whether such paths are allowed here; a process that is started anew has to be told."""
    return _outside.get()


def check_inside(path: str) -> str:
    """Return a path as a dataset.yaml writes it, if it may be used.

    Raises:
        ValueError: It leads out of the folder, and that is not allowed.
    """
    if any(ord(letter) < 32 for letter in path):
        raise ValueError("holds a control character; no path does")
    if len(path) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters; no path is")
    parts = path.replace("\\", "/").split("/")
    leaves = (
        "://" in path
        or ".." in parts
        or (not parts[0] and len(parts) > 1)
        or re.match(r"[A-Za-z]:", path)
        or parts[0] == "~"
    )
    if leaves and not outside_allowed():
        raise ValueError(
            "leaves the dataset's folder; put a link to it into the folder, or give --allow-outside if you trust it"
        )
    return path
