"""The child that works on files from elsewhere: isolated and bounded."""

from __future__ import annotations

import sys

import pytest

from cellfeat.core.child import ended, start_child
from cellfeat.errors import CellfeatError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Starts a module with this body of `main` as a child: (what it said, exit status)."""

    def start(body: str) -> tuple[bytes, int]:
        (tmp_path / "job_of_a_child").mkdir()
        (tmp_path / "job_of_a_child/__init__.py").write_text(f"def main():\n    {body}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "job_of_a_child", raising=False)
        child = start_child("job_of_a_child", ("job_of_a_child",))
        return child.communicate(b"name")[0], child.returncode

    return start


def test_it_works_on_what_it_is_given(module):
    assert module("import sys; print(sys.stdin.read(), end='')") == (b"name", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("from cellfeat.core import child; child.limit_memory(1 << 28); bytearray(1 << 29)", "with status 1"),
        ("from cellfeat.core import child; child.limit_time(0)\n    while True: pass", "by signal 24"),
    ],
)
def test_its_memory_and_time_are_bounded(module, body, how):
    assert ended(module(body)[1]) == how


def test_a_python_that_cannot_be_started_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CellfeatError, match=r"no process can be started .*; run a Python that can"):
        start_child("json")
