"""Independent work shared out to processes of this machine; what they found comes back as each of them ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from threading import Thread
from typing import Any

from cellfeat.errors import CellfeatError

THREADS, CORES = "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"  # of PyTorch and NumPy; of scikit-learn


def is_first_process() -> bool:
    """Whether this process is the one that writes, of those that torchrun started together."""
    return int(os.environ.get("RANK", 0)) == 0


def connection(processes: int, ray: str | None) -> AbstractContextManager[Any]:
    """A block whose calls of `shared_out` connect to Ray once.

    Raises:
        CellfeatError: Both several processes and Ray are asked for, or as `cellfeat.core.ray_tasks.connected`.
    """
    if ray is None:
        return nullcontext()
    if processes > 1:
        raise CellfeatError("--jobs and --ray each share the work out", "give one of them")
    from cellfeat.core.ray_tasks import connected

    return connected(ray)


def shared_out(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    ray: str | None = None,
    begin: Callable[..., None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """As `in_processes`, or on the machines of a Ray cluster where its address is given; in a `connection`."""
    if ray is None:
        return in_processes(function, tasks, processes, begin)
    from cellfeat.core.ray_tasks import on_ray

    return on_ray(function, tasks, ray)


def in_processes(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    begin: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[tuple[int, Any]]:
    """Call a function with the arguments of each task, in new processes.

    The cores are shared out: a process has so many threads, unless OMP_NUM_THREADS says how many.

    Args:
        function: Of a module: new processes import it.
        tasks: Arguments of each call; they are pickled.
        processes: How many at most.
        begin: Called first in each process with its number, from 0 on, and `given`.
        given: What the calls of a process share.

    Yields:
        Number of a task and what its call returned, in the order in which they end.

    Raises:
        CellfeatError: A process was killed, or as a call raised it; calls that have not begun are left out.
    """
    context = get_context("spawn")
    places: Queue[int] = context.Queue()
    for place in range(processes):
        places.put(place)
    with _shared_cores(processes), ProcessPoolExecutor(processes, context, _begin, (places, begin, given)) as pool:
        try:
            futures = {pool.submit(function, *task): number for number, task in enumerate(tasks)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise CellfeatError(
                f"one of {processes} processes was killed, perhaps for want of memory",
                "run the same command again, with fewer processes if memory is short",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(places: Queue[int], begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    place = places.get()
    if begin is not None:
        begin(place, *given)


def _end_with_parent() -> None:
    """A command that is killed leaves no process at work: it would write beside the command that is run again."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _shared_cores(processes: int) -> Iterator[None]:
    """What new processes read when they begin."""
    share = str(max(1, (os.cpu_count() or 1) // processes))
    before = {name: os.environ.get(name) for name in (THREADS, CORES)}
    os.environ.update({name: value or share for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
