"""A process is killed, or its disk fails, between two file operations: files are whole or absent."""

import os
import signal

import faults
import pytest
from fault_injection import Steps, inject

from cellfeat.core.files import write_json, write_text
from cellfeat.core.run_record import RunRecord


def disturbed(folder, job, kind, at):
    """Exit status of `job` in a child with a fault at one step, and the steps that it came to."""
    steps = Steps()

    def run():
        inject(folder, steps, kind, at)
        job()

    return faults.ended(faults.child(run)), steps.count


def steps_of(folder, job):
    status, count = disturbed(folder, job, "", -1)
    assert status == 0
    return count


@pytest.mark.parametrize("kind", ["kill", "full", "read-only"])
def test_a_text_is_the_old_or_the_new_one(tmp_path, kind):
    path = tmp_path / "a.txt"
    count = steps_of(tmp_path, lambda: write_text(path, "new"))
    assert count >= 3
    found = set()
    for step in range(count):
        path.write_text("old")
        status, _ = disturbed(tmp_path, lambda: write_text(path, "new"), kind, step)
        assert status == (-signal.SIGKILL if kind == "kill" else 1) or path.read_text() == "new"
        found.add(path.read_text())
        assert kind != "full" or os.listdir(tmp_path) == ["a.txt"]  # nothing is left to fill the disk further
    assert found <= {"old", "new"}
    assert "old" in found


def test_a_run_killed_at_any_step_is_done_or_can_be_done(tmp_path):
    def job():
        record = RunRecord(tmp_path / "run", {"seed": 1})
        if not record.check():
            record.begin()
            write_json(tmp_path / "run/result.json", {"score": 1})
            record.done()

    for step in range(steps_of(tmp_path, job)):
        faults.shutil.rmtree(tmp_path / "run")
        assert disturbed(tmp_path, job, "kill", step)[0] == -signal.SIGKILL
        job()
        assert RunRecord(tmp_path / "run", {"seed": 1}).check()
        assert (tmp_path / "run/result.json").is_file()
