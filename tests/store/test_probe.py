"""Files that would crash HDF5 end a child process, not this one."""

import os
import sys

import numpy as np
import pytest
from store_helpers import smear, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store, probe, read_embeddings, write_embeddings
from cellfeat.store.repair import repair

SHARDS = ["shards/part-00000.h5", "shards/part-00001.h5"]


@pytest.fixture
def foreign(tmp_path):
    """A store that this process did not write, as far as it knows."""
    path = write(tmp_path / "store", smear())
    probe._found.clear()
    return path


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """Makes the child crash when it comes to a file whose name ends so."""

    def crash(suffix):
        child = tmp_path / "python"
        child.write_text(
            f"#!{sys.executable}\n"
            "import os, signal, sys\n"
            "print('ready', flush=True)\n"
            "for name in sys.stdin.read().split(chr(0)):\n"
            f"    if name.endswith({suffix!r}): os.kill(os.getpid(), signal.SIGSEGV)\n"
            "    print('done', flush=True)\n"
        )
        child.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(child))

    return crash


posix = pytest.mark.skipif(os.name != "posix", reason="the child is made to crash by a signal")


@posix
def test_a_shard_that_crashes_hdf5_is_an_error_that_names_it(foreign, crashing):
    crashing(SHARDS[1])
    store = Store(foreign)
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: forged or damaged .*ended by signal 11") as error:
        store.table()
    assert "\n" not in str(error.value)
    assert len(store.read("features", [0])) == 1  # of another shard
    assert [line.split(":")[0] for line in store.verify()] == [SHARDS[1]]


@posix
def test_repair_sets_it_aside(foreign, crashing):
    crashing(SHARDS[1])
    assert list(repair(foreign).dropped) == [SHARDS[1]]
    assert Store(foreign).verify() == []


@posix
def test_embeddings_that_crash_hdf5_are_an_error(tmp_path, crashing):
    write_embeddings(tmp_path / "z.h5", ["a"], np.ones((1, 2)), {"method": "m", "config": "{}", "store_digest": "0"})
    probe._found.clear()
    crashing("z.h5")
    with pytest.raises(CellfeatError, match=r"z\.h5: forged or damaged .* embed again"):
        read_embeddings(tmp_path / "z.h5")


def test_a_file_is_looked_at_once_until_it_changes(foreign, monkeypatch):
    asked = []
    ask = probe._ask_child
    monkeypatch.setattr(probe, "_ask_child", lambda paths: asked.append(len(paths)) or ask(paths))
    for _ in range(2):
        Store(foreign).table()
    assert asked == [len(Store(foreign).manifest["shards"])]
    os.utime(foreign / SHARDS[0], (1, 1))
    Store(foreign).table()
    assert asked[1:] == [1]


def test_what_this_process_wrote_needs_no_child(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_ask_child", None)
    assert Store(write(tmp_path / "store", smear())).verify() == []


@pytest.mark.parametrize("python", ["", "/nowhere/python", "/bin/false"])
def test_without_a_child_files_from_elsewhere_are_refused(foreign, monkeypatch, python):
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(CellfeatError, match=r"no process can be started|ended with status 1") as error:
        Store(foreign).table()
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert len(Store(foreign).table())  # it was no fault of the files


@pytest.mark.parametrize(
    ("module", "variable"),
    [
        ("h5py", ""),
        ("h5py", "PYTHONPATH"),
        ("numpy", ""),
        ("cellfeat", ""),
        ("resource", ""),
        ("json", "PYTHONSTARTUP"),
    ],
)
def test_modules_in_an_unpacked_download_are_not_executed(foreign, tmp_path, monkeypatch, module, variable):
    download = tmp_path / "download"
    download.mkdir()
    (download / f"{module}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.chdir(download)
    if variable:
        monkeypatch.setenv(variable, str(download / f"{module}.py" if variable == "PYTHONSTARTUP" else download))
    assert len(Store(foreign).table())
    assert not (tmp_path / "executed").exists()


def test_a_file_that_asks_for_too_much_memory_is_refused(foreign, monkeypatch):
    monkeypatch.setattr(probe, "_ask_child", lambda paths: ([probe.READY, *[probe.GREEDY] * len(paths)], 0))
    with pytest.raises(CellfeatError, match="asks for too much memory"):
        Store(foreign).table()
