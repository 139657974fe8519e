"""Progress of long work: a bar on a terminal, elsewhere a line now and then, and an estimate of long trainings."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import nullcontext
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

PERIOD = 30  # s between the lines of a log file
MEASURED = 3  # s of work that an estimate is made of
LONG = 60  # s: what takes less is not announced


class Progress(tqdm):
    """tqdm's bar where standard error is a terminal; in a log file or a notebook a line every `PERIOD` seconds.

    Work that is done before that leaves no line.

    Args:
        announce: Log how long the whole work will take, as soon as its first `MEASURED` seconds tell; for work that
            calls `update` after each step.
    """

    def __init__(self, *args: Any, announce: bool = False, **options: Any) -> None:
        self._is_terminal, self._announce = sys.stderr.isatty(), announce
        if not self._is_terminal:
            options |= {"mininterval": PERIOD, "maxinterval": PERIOD, "delay": PERIOD, "leave": False}
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, or write it as one line."""
        if self._is_terminal:
            return super().display(msg, pos)
        if msg != "" and time.time() - self.start_t >= PERIOD:  # tqdm clears a bar by an empty text
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()
        return False

    def update(self, n: float | None = 1) -> bool | None:
        """Add steps that are done."""
        shown = super().update(n)
        if self._announce and not self.disable:
            self._estimate(time.time() - self.start_t)
        return shown

    def skip(self, n: int) -> None:
        """Count steps that were done before: they say nothing of the speed."""
        if not self.disable:
            self.initial += n
            super().update(n)

    def _estimate(self, seconds: float) -> None:
        done = self.n - self.initial
        if seconds < MEASURED or done <= 0:
            return
        self._announce = False
        if (left := (self.total - self.n) * seconds / done) > LONG:
            with self.external_write_mode() if self._is_terminal else nullcontext():
                log.info("%s: about %s by its first steps", self.desc.removesuffix(": "), duration(left))


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "5 min", "2 h 10 min", "3 days"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 60 / 24:.0f} days"
