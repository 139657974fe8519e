import logging
import sys

import pytest

from cellfeat.core import progress
from cellfeat.core.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """tqdm's time, set by the test."""
    now = [1000.0]
    for module in ("time", "tqdm.std"):
        monkeypatch.setattr(f"{module}.time", lambda: now[0])
    return now


def steps(clock, seconds, count=100, **options):
    with Progress(total=count, desc="train", **options) as bar:
        for _ in range(count):
            clock[0] += seconds
            bar.update()


@pytest.mark.parametrize(("seconds", "lines"), [(0.2, 0), (1.0, 3)])
def test_a_log_file_gets_a_line_every_30_seconds(clock, capsys, seconds, lines):
    steps(clock, seconds)
    err = capsys.readouterr().err
    assert "\r" not in err
    assert err.count("\n") == lines
    assert [line.split("|")[2].split()[0] for line in err.splitlines()] == ["30/100", "60/100", "90/100"][:lines]


def test_a_terminal_gets_a_bar(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    steps(clock, 0.2)
    assert capsys.readouterr().err.count("\r") > 50


@pytest.mark.parametrize(("seconds", "said"), [(90, ["train: about 2 h 28 min by its first steps"]), (0.1, [])])
def test_long_work_is_announced_with_its_estimate(clock, caplog, seconds, said):
    with caplog.at_level(logging.INFO, logger="cellfeat"):
        steps(clock, seconds, announce=True)
    assert caplog.messages == said


def test_durations():
    found = [duration(seconds) for seconds in (4, 300, 7800, 86400 * 3)]
    assert found == ["4 s", "5 min", "2 h 10 min", "3 days"]
    assert progress.LONG > progress.MEASURED
