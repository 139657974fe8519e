"""What people say of cells: labels, flags and notes in a log that only grows. Shards are never changed.

A log is a text file of one JSON object a line:

    {"id", "time", "user", "store", "kind": "label" | "flag" | "note", "cells": [...], "old": [...], "new": ...}
    {"id", "time", "user", "store", "kind": "undo", "of": id of the line that counts no more}

A save is one line, appended and synced while the file is locked, so that two windows or processes can write one log.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from cellfeat.core.json_text import parse_json
from cellfeat.core.text import read_text
from cellfeat.errors import CannotWrite, CellfeatError, Damaged, one_line
from cellfeat.store.schema import is_text

try:
    import fcntl
except ImportError:  # Windows: a save is one write of an appending file all the same
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

Kind = Literal["label", "flag", "note"]
KINDS: tuple[Kind, ...] = ("label", "flag", "note")
MAX_CELLS = 100_000  # of one save
MAX_NOTE = 2000  # characters
TEXTS = ("id", "time", "user", "store", "kind")


@dataclass
class Said:
    """What a log says in the end.

    Attributes:
        lines: Every line, in order.
        values: Of each kind, cell id to value; a cell whose every line was undone is absent.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {kind: {} for kind in KINDS}
        for line in counting(self.lines):
            self.values[line["kind"]].update(dict.fromkeys(line["cells"], line["new"]))


def counting(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that were not undone."""
    undone = {line["of"] for line in lines if line["kind"] == "undo"}
    return [line for line in lines if line["kind"] != "undo" and line["id"] not in undone]


def read_log(path: Path) -> Said:
    """Read a log; one that does not exist says nothing.

    A line that was cut when a writer was killed is left out with a warning.

    Raises:
        Damaged: A line is JSON and no line of a log.
        CellfeatError: The file cannot be read.
    """
    if not path.exists():
        return Said()
    lines = []
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if not text:
            continue
        source = f"{path}, line {number}"
        try:
            line = parse_json(text.encode(), source)
        except CellfeatError as error:
            log.warning("%s is left out: it was not written whole (%s)", source, error)
            continue
        _check(line, source)
        lines.append(line)
    return Said(lines)


def _check(line: Any, source: str) -> None:
    """Refuse what is no line of a log.

    Raises:
        Damaged: It is none.
    """
    fits = isinstance(line, dict) and all(isinstance(line.get(name), str) for name in TEXTS)
    if fits and line["kind"] == "undo":
        fits = isinstance(line.get("of"), str)
    elif fits:
        cells = line.get("cells")
        fits = line["kind"] in KINDS and isinstance(cells, list) and all(isinstance(cell, str) for cell in cells)
        fits = fits and isinstance(line.get("new"), bool if line["kind"] == "flag" else str)
    if not fits:
        raise Damaged(f"{source}: no line of an annotation log", "remove the line, or restore the file from a copy")


class AnnotationLog:
    """A log that is written.

    Args:
        path: The file; made at the first save.
        store: Digest of the store.
        classes: The labels that can be given; "" takes a label away.
    """

    def __init__(self, path: Path, store: str, classes: Sequence[str]) -> None:
        self.path, self._store, self._classes = path, store, set(classes)
        self._read: tuple[tuple[int, int], Said] | None = None
        for line in self.read().lines:
            if line["store"] != store:
                what = f"{path}: is about another store ({line['store'][:12]}, this one is {store[:12]})"
                raise CellfeatError(what, "give another --log")

    def read(self) -> Said:
        """What the log says now, whoever wrote it; a file that has not changed is not read again."""
        try:
            stat = self.path.stat()
        except OSError:
            return read_log(self.path)
        if self._read is None or self._read[0] != (stat.st_size, stat.st_mtime_ns):
            self._read = (stat.st_size, stat.st_mtime_ns), read_log(self.path)
        return self._read[1]

    def save(self, user: str, kind: str, cells: Sequence[str], new: Any, stored: Sequence[str] = ()) -> Said:
        """Append one line.

        Args:
            user: Who says it.
            kind: "label", "flag" or "note".
            cells: Ids, 1 to 100,000 different ones.
            new: A class or ""; True or False; or a text.
            stored: The labels of the cells in the store, for the old values.

        Raises:
            CellfeatError: The value is none of this kind.
            CannotWrite: The disk is full, read-only or out of reach.
        """
        if not 0 < len(cells) <= MAX_CELLS or len(set(cells)) < len(cells):
            raise CellfeatError(f"{len(cells)} cells in one save", f"give 1 to {MAX_CELLS} different ones")
        right = {
            "label": isinstance(new, str) and (new == "" or new in self._classes),
            "flag": isinstance(new, bool),
            "note": isinstance(new, str) and len(new) <= MAX_NOTE and is_text(new),
        }
        if not right.get(kind, False):
            raise CellfeatError(f"{str(new)[:80]!r}: no {kind} that a cell can get", "choose another value")
        before = list(stored) if kind == "label" else [False if kind == "flag" else ""] * len(cells)
        with self._locked() as file:
            values = self.read().values[kind]
            old = [values.get(cell, value) for cell, value in zip(cells, before)]
            self._append(file, user, {"kind": kind, "cells": list(cells), "old": old, "new": new})
        return self.read()

    def undo(self, user: str) -> Said:
        """Let the last line of this user count no more.

        Raises:
            CellfeatError: There is none.
            CannotWrite: As `save`.
        """
        with self._locked() as file:
            mine = [line for line in counting(self.read().lines) if line["user"] == user]
            if not mine:
                raise CellfeatError(f"{self.path}: nothing of {user} that could be undone")
            self._append(file, user, {"kind": "undo", "of": mine[-1]["id"]})
        return self.read()

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        """The file, open to append, with the system's lock on it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0) as file:
                if fcntl is not None:
                    with suppress(OSError):  # a network mount without locks
                        fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise CannotWrite(f"{self.path}: cannot write ({one_line(error)})", "correct that and save again") from None

    def _append(self, file: Any, user: str, content: dict[str, Any]) -> None:
        size = file.seek(0, os.SEEK_END)
        cut = False
        if size:
            file.seek(size - 1)
            cut = file.read(1) != b"\n"  # of a writer that was killed: its line must not swallow this one
        head = {
            "id": secrets.token_hex(8),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "user": user,
            "store": self._store,
        }
        line = ("\n" if cut else "") + json.dumps(head | content, ensure_ascii=False) + "\n"
        data = line.encode("utf-8", "backslashreplace")  # half a character in a line of before stays one
        if file.write(data) != len(data):
            raise OSError(28, "the disk is full")
        os.fsync(file.fileno())
