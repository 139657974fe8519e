"""Who may write a store, and what becomes of the locks that dead writers left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, image, smear, write

from cellfeat.errors import Busy, CannotWrite, CellfeatError
from cellfeat.store import Store, StoreWriter, lock
from cellfeat.store.join import join_parts
from cellfeat.store.lock import LOCK, WriterLock
from cellfeat.store.repair import repair

posix = pytest.mark.skipif(os.name != "posix", reason="links and locks are those of POSIX")


def lock_of(path, **holder):
    path.mkdir()
    (path / LOCK).write_text(json.dumps({"pid": 1, "host": socket.gethostname(), "start": "2020-01-01", **holder}))
    return path


def test_lock_says_who_holds_it(tmp_path):
    lock = WriterLock(tmp_path / "store")
    holder = json.loads((tmp_path / "store" / LOCK).read_text())
    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    with pytest.raises(CellfeatError, match=f"another process is writing .*process {os.getpid()} on .* since 20"):
        WriterLock(tmp_path / "store")
    lock.close()
    assert (tmp_path / "store" / LOCK).read_bytes() == b""


def test_lock_of_a_dead_process_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    WriterLock(lock_of(tmp_path / "store", pid=dead.pid)).close()


@pytest.mark.parametrize(("alive", "free"), [(True, False), (False, True)])
def test_without_flock_the_process_id_tells(tmp_path, monkeypatch, alive, free):
    monkeypatch.setattr("cellfeat.store.lock.fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = lock_of(tmp_path / "store", pid=os.getppid() if alive else dead.pid)
    if free:
        WriterLock(path).close()
    else:
        with pytest.raises(CellfeatError, match="another process is writing"):
            WriterLock(path)


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
        WriterLock(path).close()
        assert (path / LOCK).read_bytes() == b""
    else:
        with pytest.raises(Busy, match=r"process 1 on replaced-container .*remove .*\.lock and run again"):
            WriterLock(path)
        assert (path / LOCK).read_bytes() != b""


@linux
def test_a_held_lock_is_respected_whatever_it_says(tmp_path):
    first = WriterLock(tmp_path / "store")
    (tmp_path / "store" / LOCK).write_text(json.dumps({"pid": 1, "host": "x", "boot": "of another kernel"}))
    with pytest.raises(Busy, match="another process is writing"):
        WriterLock(tmp_path / "store")
    first.close()


@linux
def test_a_process_id_of_another_namespace_tells_nothing_without_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = lock_of(tmp_path / "store", pid=dead.pid, boot=KERNEL, pids="pid:[1]")
    with pytest.raises(Busy, match="remove"):
        WriterLock(path)


def test_a_lock_that_says_nothing_is_taken_over(tmp_path):
    path = lock_of(tmp_path / "store")
    (path / LOCK).write_text("no JSON")
    WriterLock(path).close()


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


@posix
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "fifo", "folder"])
def test_a_lock_that_is_no_plain_file_is_refused(tmp_path, kind):
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    path = write(tmp_path / "store", smear())
    (path / LOCK).unlink()
    if kind == "symbolic":
        (path / LOCK).symlink_to(mine)
    elif kind == "dangling":
        (path / LOCK).symlink_to(tmp_path / "new.txt")
    elif kind == "hard":
        os.link(mine, path / LOCK)
    elif kind == "fifo":
        os.mkfifo(path / LOCK)
    else:
        (path / LOCK).mkdir()
    for job in (repair, lambda store: write(store, smear())):
        with pytest.raises(CellfeatError, match=r"\.lock: is a link or no regular file") as error:
            job(path)
        assert "\n" not in str(error.value)
    assert mine.read_text() == "three years"
    assert not (tmp_path / "new.txt").exists()


@posix
@pytest.mark.parametrize("name", ["dropped", "shards"])
def test_folders_that_lead_out_of_the_store_are_refused(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "part-00099.h5").write_text("mine")
    path = write(tmp_path / "store", smear())
    (path / "shards/part-00000.h5").write_text("damaged")
    if name == "shards":
        shutil.rmtree(path / name)
    (path / name).symlink_to(outside)
    with pytest.raises(CellfeatError, match=rf"{name}: is a link or a file where a store has a folder"):
        repair(path)
    if name == "shards":
        with pytest.raises(CellfeatError, match="is a link"):
            write(path, smear())
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("part-00099.h5", "mine")]


@posix
def test_a_link_in_the_way_of_a_temporary_file_is_not_followed(tmp_path):
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    path = write(tmp_path / "store", smear()[:4])
    (path / f".manifest.json.{os.getpid()}.partial").symlink_to(mine)
    write(path, smear())
    assert mine.read_text() == "three years"


@pytest.mark.parametrize("away", ["renamed", "removed"])
def test_a_store_moved_from_under_its_writer_is_an_error(tmp_path, away):
    path = tmp_path / "store"
    writer = StoreWriter(path, SHAPE, SIDE, PROVENANCE, shard_cells=2)
    writer.add(image(0, cells=2))
    writer.add(image(1))
    writer._settle()
    path.rename(tmp_path / "elsewhere")
    if away == "removed":
        shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(CannotWrite, match="moved or removed while it was written"):
        writer.close()
    assert not path.exists()  # no half of a store where it was
    if away == "renamed":
        assert Store(tmp_path / "elsewhere").verify() == []
        write(tmp_path / "elsewhere", smear())


def test_joining_waits_for_nobody(tmp_path):
    parts = [write(tmp_path / "a", smear()[:8]), write(tmp_path / "b", smear()[8:])]
    for busy in (tmp_path / "joined", parts[1]):
        with WriterLock(busy), pytest.raises(Busy, match="another process is writing"):
            join_parts(parts, tmp_path / "joined")
    join_parts(parts, tmp_path / "joined")
    assert Store(tmp_path / "joined").verify() == []
