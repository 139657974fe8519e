"""Independent work shared out to the machines of a Ray cluster (the extra `ray`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cellfeat.errors import CellfeatError, MissingRequirement

LOCAL = "local"


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster in this block; one in such a block uses its connection.

    Args:
        address: "local": this machine alone; else of a running cluster: "auto", HOST:PORT or ray://HOST:PORT.

    Raises:
        MissingRequirement: Ray is not installed.
        CellfeatError: No such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    try:
        import ray
    except ImportError:
        raise MissingRequirement("--ray: Ray is not installed", "pip install 'cellfeat[ray]'", "package") from None
    if ray.is_initialized():
        yield ray
        return
    own = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, TimeoutError) as error:
        what = str(error).strip().splitlines()[0]
        raise CellfeatError(f"--ray {address}: no such cluster ({what})", "start it by `ray start --head`") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def resources(ray: Any) -> tuple[dict[str, float], int]:
    """What a worker needs, a GPU or as many cores as it has threads, and how many there is room for."""
    there = ray.cluster_resources()
    if gpus := int(there.get("GPU", 0)):
        return {"num_cpus": 1, "num_gpus": 1}, gpus
    cores = int(os.environ.get("OMP_NUM_THREADS") or 1)
    return {"num_cpus": cores}, int(there.get("CPU", 1)) // cores


def on_ray(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], address: str) -> Iterator[tuple[int, Any]]:
    """Call a function with the arguments of each task; as `cellfeat.core.processes.in_processes`, on a cluster.

    Paths mean the same on all machines. A call whose machine is lost is made again by another.

    Yields:
        Number of a task and what its call returned, in the order in which they end.

    Raises:
        CellfeatError: As `connected`, as a call raised it, or the workers of a call died again and again.
    """
    with connected(address) as ray:
        needs, _ = resources(ray)
        run = ray.remote(_in_folder).options(**needs)
        numbers = {run.remote(os.getcwd(), function, task): number for number, task in enumerate(tasks)}
        while numbers:
            [done], _ = ray.wait(list(numbers), num_returns=1)
            number = numbers.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, CellfeatError):
                    raise error.cause from None
                raise
            except ray.exceptions.WorkerCrashedError:
                raise CellfeatError(
                    f"--ray {address}: the workers of a task die again and again", "perhaps memory is short"
                ) from None


def _in_folder(folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    os.chdir(folder)  # where relative paths begin
    return function(*arguments)
