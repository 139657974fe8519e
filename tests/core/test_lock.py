"""Who may write a folder, and what becomes of the locks that dead writers left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from cellfeat.core import lock
from cellfeat.core.lock import LOCK, FolderLock
from cellfeat.errors import Busy, CellfeatError

posix = pytest.mark.skipif(os.name != "posix", reason="links and locks are those of POSIX")


def lock_of(path, **holder):
    path.mkdir()
    (path / LOCK).write_text(json.dumps({"pid": 1, "host": socket.gethostname(), "start": "2020-01-01", **holder}))
    return path


def test_lock_says_who_holds_it(tmp_path):
    lock = FolderLock(tmp_path / "store")
    holder = json.loads((tmp_path / "store" / LOCK).read_text())
    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    with pytest.raises(CellfeatError, match=f"another process is writing .*process {os.getpid()} on .* since 20"):
        FolderLock(tmp_path / "store")
    lock.close()
    assert (tmp_path / "store" / LOCK).read_bytes() == b""


def test_lock_of_a_dead_process_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    FolderLock(lock_of(tmp_path / "store", pid=dead.pid)).close()


@pytest.mark.parametrize(("alive", "free"), [(True, False), (False, True)])
def test_without_flock_the_process_id_tells(tmp_path, monkeypatch, alive, free):
    monkeypatch.setattr("cellfeat.core.lock.fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = lock_of(tmp_path / "store", pid=os.getppid() if alive else dead.pid)
    if free:
        FolderLock(path).close()
    else:
        with pytest.raises(CellfeatError, match="another process is writing"):
            FolderLock(path)


KERNEL = lock._boot()
linux = pytest.mark.skipif(not KERNEL, reason="the system does not tell which kernel runs")


@linux
@pytest.mark.parametrize(
    ("holder", "kind", "taken"),
    [
        ({"boot": KERNEL}, "fuse.sshfs", True),  # a container that was replaced: another host name, the same kernel
        ({"boot": "of another kernel"}, "ext4", True),  # the machine was started again, or the disk moved to another
        ({"boot": "of another kernel"}, "nfs4 local_lock=none", True),
        ({"boot": "of another kernel"}, "nfs4 local_lock=all", False),
        ({"boot": "of another kernel"}, "fuse.sshfs", False),
        ({}, "lustre", False),  # written before locks told the kernel
    ],
)
def test_a_lock_that_nobody_holds_is_taken_over_where_that_is_certain(tmp_path, monkeypatch, holder, kind, taken):
    name, *options = kind.split()
    monkeypatch.setattr(lock, "_file_system", lambda path: (name, set(options)))
    path = lock_of(tmp_path / "store", host="replaced-container", pid=1, **holder)
    if taken:
        FolderLock(path).close()
        assert (path / LOCK).read_bytes() == b""
    else:
        with pytest.raises(Busy, match=r"process 1 on replaced-container .*remove .*\.lock and run again"):
            FolderLock(path)
        assert (path / LOCK).read_bytes() != b""


@linux
def test_a_held_lock_is_respected_whatever_it_says(tmp_path):
    first = FolderLock(tmp_path / "store")
    (tmp_path / "store" / LOCK).write_text(json.dumps({"pid": 1, "host": "x", "boot": "of another kernel"}))
    with pytest.raises(Busy, match="another process is writing"):
        FolderLock(tmp_path / "store")
    first.close()


@linux
def test_a_process_id_of_another_namespace_tells_nothing_without_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = lock_of(tmp_path / "store", pid=dead.pid, boot=KERNEL, pids="pid:[1]")
    with pytest.raises(Busy, match="remove"):
        FolderLock(path)


@pytest.mark.parametrize("written", ["", "{", '{"pid": ', '{"pid": 12, "ho'])
def test_a_lock_that_a_killed_writer_began_is_taken_over(tmp_path, written):
    path = lock_of(tmp_path / "store")
    (path / LOCK).write_text(written)
    FolderLock(path).close()


@pytest.mark.parametrize("written", ["no lock", "[]", '{"version": 1}', "x" * 10000])
def test_a_file_of_something_else_is_not_overwritten(tmp_path, written):
    path = lock_of(tmp_path / "folder")
    (path / LOCK).write_text(written)
    for _ in range(2):
        with pytest.raises(CellfeatError, match=r"folder/\.lock: is a file of something else.*; move it away and run"):
            FolderLock(path)
    assert (path / LOCK).read_text() == written


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path, monkeypatch):
    (tmp_path / "self").mkdir()
    line = "36 35 98:0 / {} rw - {} source rw,local_lock=none\n"
    mounts = line.format("/", "ext4") + line.format(str(tmp_path), "xfs")
    mounts += line.format(str(tmp_path / "a b").replace(" ", "\\040"), "nfs4")
    (tmp_path / "self/mountinfo").write_text(mounts)
    monkeypatch.setattr(lock, "PROC", tmp_path)
    (tmp_path / "a b").mkdir()
    assert lock._file_system(tmp_path / "a b") == ("nfs4", {"rw", "local_lock=none"})
    assert lock._file_system(tmp_path)[0] == "xfs"
