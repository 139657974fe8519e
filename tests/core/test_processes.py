import fcntl
import os
import signal
import time
from multiprocessing import get_context

import pytest

from cellfeat.core.processes import THREADS, in_processes
from cellfeat.errors import CellfeatError, MissingRequirement

place = -1


def begin(number, name):
    global place
    place = (number, name)


def work(number, what=""):
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what:
        raise MissingRequirement(what, "install it", "package")
    return number**2, place, os.environ[THREADS]


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    """A new interpreter for each test would take longer than all else."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    monkeypatch.setattr("cellfeat.core.processes.get_context", lambda name: get_context("fork"))


def test_every_task_is_done_once_and_cores_are_shared_out(monkeypatch):
    monkeypatch.delenv(THREADS, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    found = dict(in_processes(work, [(k,) for k in range(9)], 2, begin, ("a",)))
    assert {number: values[0] for number, values in found.items()} == {k: k**2 for k in range(9)}
    assert {values[1] for values in found.values()} <= {(0, "a"), (1, "a")}
    assert {values[2] for values in found.values()} == {"4"}
    assert THREADS not in os.environ
    monkeypatch.setenv(THREADS, "3")
    assert [values[2] for _, values in in_processes(work, [(1,)], 2)] == ["3"]


def test_what_ails_a_process_is_said():
    with pytest.raises(MissingRequirement, match=r"^torch is missing; install it$") as error:
        list(in_processes(work, [(1, "torch is missing"), (2,)], 2))
    assert error.value.lacking == "package"
    with pytest.raises(CellfeatError, match="one of 2 processes was killed"):
        list(in_processes(work, [(1, "killed"), (2,)], 2))


def idle(path):
    with open(path, "w") as file:  # its lock is held as long as this process is there
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("idle")
        file.flush()
        time.sleep(600)


def test_a_process_ends_with_the_command_that_began_it(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    command = os.fork()
    if not command:
        list(in_processes(idle, [(path,)], 1))
        os._exit(0)
    while path.read_text() != "idle":
        time.sleep(0.01)
    os.kill(command, signal.SIGKILL)
    os.waitpid(command, 0)
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
