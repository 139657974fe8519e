"""Files that are either whole or absent, and the digests by which artefacts recognise their inputs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cellfeat.core.json_text import parse_json
from cellfeat.core.lock import check_held
from cellfeat.errors import CellfeatError, one_line


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, sync it to disk and rename it into place.

    If the block raises, the temporary file is removed and whatever stood at `path` stays as it was.

    Raises:
        CannotWrite: The folder was moved or removed by somebody else while this process held it.
        CellfeatError: A folder stands at `path`.
    """
    path = Path(path)
    check_held(path)
    if path.is_dir():
        raise CellfeatError(f"{path}: a folder is where this file goes", "move it away and run again")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # of a dead process of this id; or a link in a stranger's folder
    try:
        yield partial
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno is None and not path.parent.is_dir():  # pandas looks for the folder itself, and has no number
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring renames in a folder to the disk, so that a power cut cannot keep what names a file and lose the file."""
    with suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.+-]+", "-", name)


def write_text(path: str | Path, text: str) -> None:
    r"""Write a utf-8 text file atomically; a half character, of a file name that is not UTF-8, is written as \udcNN."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON writes half a character, too


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, non-ASCII kept readable."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        CellfeatError: The file is missing, or `parse_json` refuses it.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
            raise CellfeatError(f"{path}: a folder or a device, not a JSON file")
        return parse_json(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise CellfeatError(f"{path}: no such file") from None
    except OSError as error:
        raise CellfeatError(f"{path}: cannot be read ({error.strerror})") from None


def read_own_json(path: str | Path, remedy: str) -> Any:
    """As `read_json`, of a file that cellfeat wrote: the error says what to do about it."""
    try:
        return read_json(path)
    except CellfeatError as error:
        raise CellfeatError(error.what, remedy) from None


@contextmanager
def as_written(path: str | Path, remedy: str) -> Iterator[None]:
    """Around what uses the content of a file that cellfeat wrote: another form of it ends in one line.

    Raises:
        CellfeatError: What the block met is not there or of another type, as after damage or a change by hand.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise CellfeatError(f"{path}: is not as cellfeat wrote it ({what})", remedy) from error


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(handle)


def _sha256(handle: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def digest(content: Any) -> str:
    """Hex SHA-256 of JSON-serialisable `content` in canonical form (sorted keys, no white space)."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
