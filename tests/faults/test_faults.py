import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import faults
import pytest

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.lock import LOCK, WriterLock


def test_writer_killed_at_random_instants_loses_nothing(tmp_path):
    found = faults.kills(lambda path: faults.write(path, 30, pause=0.004), tmp_path, count=30, seed=1)
    assert found["kills"] >= 30
    assert found["killed with shards listed"] > 5
    assert found["rows lost"] == 0


def test_every_mutation_is_noticed(tmp_path):
    found = faults.mutations(faults.write(tmp_path / "store", 20), count=200, seed=1)
    assert found["noticed"] == 200
    assert min(found[f"{kind} {how}"] for kind in ("shard", "manifest") for how in ("flipped", "cut")) > 5


def test_damage_that_is_signed_anew_ends_no_reader(tmp_path):
    found = faults.forgeries(faults.write(tmp_path / "store", 20), count=24, seed=1)
    assert set(found) == {"read", "refused"}  # and none ended by a signal


def test_full_disk(tmp_path):
    try:
        found = faults.full_disks(tmp_path, sizes=[12 << 10, 64 << 10, 160 << 10], count=40)
    except OSError as error:
        pytest.skip(str(error))
    assert found["ended with one line"] == 3
    assert found["rows lost"] == 0


def test_two_writers_at_once(tmp_path):
    found = faults.rivals(tmp_path, rounds=2)
    assert found["one refused"] == 2
    assert found["rows lost"] == 0


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


def test_lock_of_another_machine_is_refused_with_the_words_to_remove_it_by(tmp_path):
    path = lock_of(tmp_path / "store", host="elsewhere", pid=77)
    with pytest.raises(CellfeatError, match=r"process 77 on elsewhere .*remove .*\.lock and run again"):
        WriterLock(path)
    (path / LOCK).write_text("no JSON")
    WriterLock(path).close()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("place", ["folder", "shards"])
def test_no_permission_is_one_line(tmp_path, place):
    tmp_path.chmod(0o755)
    path = faults.write(tmp_path / "store", 10)
    before = Store(path).digest
    locked = path if place == "folder" else path / "shards"
    nobody = 65534
    if os.getuid() == 0:
        for file in (path, *path.rglob("*")):
            os.chown(file, nobody, nobody)
        for parent in path.parents:
            if stat.S_IMODE(parent.stat().st_mode) & 0o005 != 0o005 and parent != Path("/"):
                parent.chmod(0o755)
    locked.chmod(0o555)
    if place == "folder":
        (path / LOCK).unlink()

    def job():
        if os.getuid() == 0:
            os.setuid(nobody)
        faults.write(path, 40)

    assert faults.ended(faults.child(job)) == faults.REFUSED
    locked.chmod(0o755)
    assert Store(path).digest == before


def test_other_folders_are_left_as_they_are(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CellfeatError, match="not a feature store"):
        faults.write(tmp_path, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
