"""A function that runs in a process of its own, with a time limit: what it meets ends that process and not this one."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from cellfeat.errors import Busy, CellfeatError


class OwnProcess:
    """Calls a function in another process, which is started at the first call and kept.

    Args:
        function: Of one argument; both must be picklable. Its `CellfeatError` is raised here.
        seconds: That a call may take.
    """

    def __init__(self, function: Callable[[Any], Any], seconds: float) -> None:
        self._function, self._seconds = function, seconds
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None

    def __call__(self, argument: Any) -> Any:
        """What the function returns.

        Raises:
            Busy: It is at work for another caller.
            CellfeatError: It took too long, did not live to answer, or raised.
        """
        if not self._lock.acquire(blocking=False):
            raise Busy("another picture is looked at", "wait until that is done and send it again")
        try:
            pipe = self._started()
            pipe.send(argument)
            if not pipe.poll(self._seconds):
                self.end()
                raise CellfeatError(f"took more than {self._seconds:g} s", "send a smaller picture")
            failed, answer = pipe.recv()
        except (EOFError, OSError):
            self.end()
            raise CellfeatError("the process ended before it answered, perhaps for want of memory") from None
        finally:
            self._lock.release()
        if failed:
            raise answer
        return answer

    def end(self) -> None:
        """End the process; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _started(self) -> Connection:
        if self._pipe is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")  # threads of the server do not cross a fork
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_answer, args=(self._function, theirs), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe


def _answer(function: Callable[[Any], Any], pipe: Connection) -> None:
    """The process: call the function for each argument that comes."""
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            argument = pipe.recv()
            try:
                pipe.send((False, function(argument)))
            except CellfeatError as error:
                pipe.send((True, CellfeatError(str(error))))
            except Exception as error:
                pipe.send((True, CellfeatError(f"failed: {type(error).__name__}: {error}")))
