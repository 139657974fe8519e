"""Damage to what a killed command left, as by a bad disk, a sync program or a hand."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from cellfeat.core.lock import LOCK


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "stray").write_text("x")


def _removed(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _other_form(path: Path) -> None:
    """A JSON file of another form, as of another version; other files become one."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if isinstance(content, dict) and content:
        content[sorted(content)[0]] = [7]
    path.write_text(json.dumps(content if content else [None]))


def _less(path: Path) -> None:
    """A JSON file without one of its keys, as of an older version."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    path.write_text(json.dumps(dict(sorted(content.items())[1:]) if isinstance(content, dict) else {}))


def _partial(path: Path) -> None:
    """What writing this file left."""
    path.with_name(f".{path.name}.123.partial").write_bytes(path.read_bytes()[:10])


def _partial_folder(path: Path) -> None:
    path.with_name(f".{path.name}.123.partial").mkdir()


def _lock(path: Path) -> None:
    """The lock of a process that lives no more, from before the last start of this machine."""
    dead = {"pid": 999999, "host": "elsewhere", "start": "2020-01-01T00:00:00+00:00", "boot": "x", "pids": "y"}
    path.with_name(LOCK).write_text(json.dumps(dead))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": _cut,
    "empty": _empty,
    "zeros": _zeros,
    "a folder": _folder,
    "removed": _removed,
    "a link to nowhere": _link,
    "a link in a circle": _circle,
    "another form": _other_form,
    "less": _less,
    "a partial file": _partial,
    "a partial folder": _partial_folder,
    "a dead lock": _lock,
}


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a file of a folder, or put a file where a folder within it was.

    Returns:
        What was done, "" where there is nothing to damage.
    """
    entries = sorted(path for path in folder.rglob("*") if path.suffix != ".partial")  # which nobody reads
    files = [path for path in entries if path.is_file() and not path.is_symlink() and path.name != LOCK]
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    if folders and rng.random() < 0.1:
        path = rng.choice(folders)
        shutil.rmtree(path)
        path.write_text("x")
        return f"{path.relative_to(folder)}: a file"
    if not files:
        return ""
    path, kind = rng.choice(files), rng.choice(sorted(DAMAGES))
    DAMAGES[kind](path)
    return f"{path.relative_to(folder)}: {kind}"
