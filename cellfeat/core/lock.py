"""One writer of a folder at a time: a lock file that says who holds it, and tells a dead holder from a live one.

    with FolderLock(output) as lock:
        ...           # the work
        lock.check()  # before a result is put in place: the folder was not moved away meanwhile

Every command that writes a folder over some time holds its lock from before it looks at what is there until it is done.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from weakref import WeakSet

from cellfeat.errors import Busy, CannotWrite, CellfeatError, one_line

try:
    import fcntl
except ImportError:  # Windows: the file's own words must do
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
BEGINS = b'{"pid": '  # as `_myself` is written
PROC = Path("/proc")  # where Linux tells about itself

# File systems that one running kernel has to itself, so that its locks are known to every process that could write.
LOCAL = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "vfat"}
LOCAL |= {"xfs", "zfs"}


class FolderLock:
    """Holds a folder against a second writer until it is closed or the process ends.

    The file `.lock` says in JSON who holds it and is emptied when the writer is done. The system's own lock on it
    (`flock`) ends with the process, whatever ends it. Whoever gets that lock takes over what a dead writer left, if

    - the writer ran under the same kernel: in this process's container, another one or none;
    - or the file system shows locks to every machine that mounts it: a local one, or NFS as it is usually mounted.

    Elsewhere the holder may live on another machine whose lock is not seen here. Then the user is told which file to
    remove. Where the system has no `flock`, the holder's process id tells whether it lives.

    Args:
        folder: The folder; made if absent.

    Raises:
        Busy: Another writer holds it or may hold it.
        CannotWrite: The folder cannot be written to.
        CellfeatError: `.lock` is a link, no regular file, or a file of something else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._place = folder, folder.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _open(folder / LOCK)
        except OSError as error:
            raise CannotWrite(f"{folder}: cannot write here ({one_line(error)})", "choose another folder") from None
        try:
            self._claim()
        except BaseException:
            self._file.close()
            raise
        _held.add(self)

    def _claim(self) -> None:
        taken, holder = _flock(self._file), _holder(self._file)
        if taken is False or (taken is None and holder and _alive(holder)):
            raise Busy(
                f"{self._folder}: another process is writing here{_words(holder)}",
                "wait for it, or choose another folder",
            )
        if not holder and not _begun(self._file):
            raise CellfeatError(
                f"{self._folder / LOCK}: is a file of something else, where cellfeat keeps its lock",
                "move it away and run again",
            )
        if holder and not (_gone(holder) if taken is None else _sees_all_locks(self._folder, holder)):
            raise Busy(
                f"{self._folder}: a writer on another machine left its lock{_words(holder)}",
                f"if it no longer runs, remove {self._folder / LOCK} and run again",
            )
        self.check()  # another writer may have removed the file that was opened here
        try:
            self._write(json.dumps(_myself()).encode())
        except OSError as error:
            raise CannotWrite(f"{self._folder}: cannot write ({one_line(error)})", "make room and run again") from None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def check(self) -> None:
        """Make sure that the folder is still where it was and this is still its lock.

        Raises:
            CannotWrite: The folder or the lock was moved, removed or replaced.
        """
        mine = os.fstat(self._file.fileno())
        with suppress(OSError):
            if os.path.samestat(os.lstat(self._folder / LOCK), mine):
                return
        raise CannotWrite(
            f"{self._folder}: was moved or removed while it was written", "bring it back, then run again to go on"
        )

    def check_around(self, path: Path) -> None:
        """As `check`, if the path lies in the folder."""
        if self._place in path.absolute().parents:
            self.check()

    def close(self) -> None:
        """Let go of the folder."""
        _held.discard(self)
        if not self._file.closed:
            with suppress(OSError):
                self._write(b"")
            self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def _write(self, content: bytes) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()


_held: WeakSet[FolderLock] = WeakSet()


def check_held(path: Path) -> None:
    """Make sure, before a file is written, that the folders around it that this process holds are still there.

    Else a part of the output would be begun again where the whole of it was.

    Raises:
        CannotWrite: One was moved, removed or replaced.
    """
    for lock in tuple(_held):
        lock.check_around(path)


def _open(path: Path) -> IO[bytes]:
    """Open the lock file, made if absent; a link in a stranger's folder must not lead to a file of the user's.

    Raises:
        CellfeatError: It is a link or no regular file.
    """
    strange = CellfeatError(f"{path}: is a link or no regular file", "remove it and run again")
    if path.is_symlink():  # also where the system has no O_NOFOLLOW
        raise strange
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.exists() and not path.is_file():
        raise strange
    descriptor = os.open(path, flags, 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise strange
    return os.fdopen(descriptor, "r+b")


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


def _myself() -> dict[str, Any]:
    """What a writer says of itself; `boot` and `pids` name the kernel that runs and the namespace of process ids."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "start": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "boot": _boot(),
        "pids": _pids(),
    }


def _boot() -> str:
    """Id of the running kernel, the same in all of its containers; "" where the system does not tell."""
    with suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _pids() -> str:
    with suppress(OSError):
        return os.readlink(PROC / "self/ns/pid")
    return ""


def _holder(file: IO[bytes]) -> dict[str, Any] | None:
    """Who wrote the file, if it says so."""
    file.seek(0)
    try:
        holder = json.loads(file.read(1 << 12))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(holder, dict) and type(holder.get("pid")) is int and isinstance(holder.get("host"), str)
    return holder if whole else None


def _begun(file: IO[bytes]) -> bool:
    """Whether a file without a holder is a lock: empty, or cut while a writer wrote who it is."""
    file.seek(0)
    content = file.read(len(BEGINS))
    return BEGINS.startswith(content) and (content == BEGINS or not file.read(1))


def _same_kernel(holder: dict[str, Any]) -> bool:
    """Whether the holder ran under the kernel that runs now; older writers told their host alone."""
    if holder.get("boot") and _boot():
        return holder["boot"] == _boot()
    return holder["host"] == socket.gethostname()


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the holder is a live process of this kernel whose id means the same here."""
    return _same_kernel(holder) and holder.get("pids", _pids()) == _pids() and _lives(holder["pid"])


def _gone(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this kernel that lives no more."""
    return _same_kernel(holder) and holder.get("pids", _pids()) == _pids() and not _lives(holder["pid"])


def _sees_all_locks(folder: Path, holder: dict[str, Any]) -> bool:
    """Whether the holder, if it lived, would still have the system's lock that this process has got."""
    if _same_kernel(holder):
        return True
    kind, options = _file_system(folder)
    return kind in LOCAL or (kind in ("nfs", "nfs4") and "local_lock=none" in options)


def _file_system(path: Path) -> tuple[str, set[str]]:
    """Type and options of the file system that holds `path`, as Linux tells; ("", empty) elsewhere."""
    found: tuple[str, set[str]] = "", set()
    longest = 0
    with suppress(OSError, ValueError, IndexError):
        place = path.resolve()
        for line in (PROC / "self/mountinfo").read_text().splitlines():
            mount, source = line.split(" - ", 1)
            point = mount.split()[4].encode().decode("unicode_escape")  # a space is written \040
            if place.is_relative_to(point) and len(point) >= longest:  # of several in one place the last is seen
                kind, _, options = source.split(" ", 2)
                found, longest = (kind, set(options.split(","))), len(point)
    return found


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
