import os
import stat
from pathlib import Path

import faults
import pytest

from cellfeat.core.lock import LOCK
from cellfeat.errors import CellfeatError
from cellfeat.store import Store


@pytest.mark.slow
def test_writer_killed_at_random_instants_loses_nothing(tmp_path):
    found = faults.kills(lambda path: faults.write(path, 18, pause=0.004), tmp_path, count=10, seed=1)
    assert found["kills"] >= 10
    assert found["killed with shards listed"] >= 3
    assert found["rows lost"] == 0


@pytest.mark.slow
def test_every_mutation_is_noticed(tmp_path):
    found = faults.mutations(faults.write(tmp_path / "store", 8), count=40, seed=1)
    assert found["noticed"] == 40
    assert min(found[f"{kind} {how}"] for kind in ("shard", "manifest") for how in ("flipped", "cut")) > 0


def test_damage_that_is_signed_again_ends_no_reader(tmp_path):
    found = faults.forgeries(faults.write(tmp_path / "store", 8), count=10, seed=1)
    assert set(found) == {"read", "refused"}  # and none ended by a signal


def test_full_disk(tmp_path):
    try:
        found = faults.full_disks(tmp_path, sizes=[12 << 10, 64 << 10], count=24)
    except OSError as error:
        pytest.skip(str(error))
    assert found["ended with one line"] == 2
    assert found["rows lost"] == 0


def test_two_writers_at_once(tmp_path):
    found = faults.rivals(tmp_path, rounds=1)
    assert found["one refused"] == 1
    assert found["rows lost"] == 0


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
