"""One writer at a time: a lock file that says who holds it, and by which a dead holder is told from a live one."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from cellfeat.errors import Busy, CannotWrite
from cellfeat.store.schema import one_line

try:
    import fcntl
except ImportError:  # Windows: the file's own words must do
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class WriterLock:
    """Holds a store against a second writer until it is closed or the process ends.

    The file `.lock` holds `{"pid", "host", "start"}` of the writer as JSON and is emptied when the writer is done. The
    system's own lock on it (`flock`) ends with the process, so after a kill the next writer on the same machine takes
    over. Where the system has no such lock, the holder's process id tells whether it lives. A file left by another
    machine proves neither, so it is refused with the words to remove it by.

    Args:
        store: Folder of the store; made if absent.

    Raises:
        Busy: Another writer holds it or may hold it.
        CannotWrite: `store` cannot be written to.
    """

    def __init__(self, store: Path) -> None:
        try:
            store.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open(store / LOCK, "a+b")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise CannotWrite(
                f"{store}: cannot write a store here ({one_line(error)})", "choose another folder"
            ) from None
        free = _flock(self._file)
        holder = _holder(self._file)
        if free is None and holder and holder["host"] == socket.gethostname():
            free = not _lives(holder["pid"])
        if free is False:
            self._file.close()
            raise Busy(
                f"{store}: another process is writing this store{_words(holder)}", "wait for it or choose another"
            )
        if holder and holder["host"] != socket.gethostname():
            self._file.close()
            raise Busy(
                f"{store}: a writer on another machine left its lock{_words(holder)}",
                f"if it no longer runs, remove {store / LOCK} and run again",
            )
        start = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": start}).encode())
        except OSError as error:
            self._file.close()
            raise CannotWrite(f"{store}: cannot write ({one_line(error)})", "make room and run again") from None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Let go of the store."""
        if not self._file.closed:
            with suppress(OSError):
                self._write(b"")
            self._file.close()

    def _write(self, content: bytes) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()


def _flock(file: IO[bytes]) -> bool | None:
    """Take the system's lock: True if taken, False if another process has it, None where there is no such lock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network mount without locks
        return None
    return True


def _holder(file: IO[bytes]) -> dict[str, Any] | None:
    """Who wrote the file, if it says so."""
    file.seek(0)
    try:
        holder = json.loads(file.read(1 << 12))
    except ValueError:
        return None
    whole = isinstance(holder, dict) and type(holder.get("pid")) is int and isinstance(holder.get("host"), str)
    return holder if whole else None


def _lives(pid: int) -> bool:
    """Whether a process of this machine lives; taken as living where the system cannot be asked."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return pid > 0


def _words(holder: dict[str, Any] | None) -> str:
    return f" (process {holder['pid']} on {holder['host']} since {holder.get('start', '?')})" if holder else ""
