"""Losses and scores of trainings on their way to TensorBoard, MLflow, Weights & Biases or anything else.

    with tracking(TensorBoard()):
        train_autoencoder(store, "autoencoder", config)

A callback is any function of a run's folder, a step and numbers by name. Every training calls `track`: both engines of
the detector at the iterations that they log, the autoencoder and methods after each epoch, psd after each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cellfeat.errors import CellfeatError

Callback = Callable[[Path, int, Mapping[str, float]], None]

_CALLBACKS: ContextVar[tuple[Callback, ...]] = ContextVar("callbacks", default=())


@contextmanager
def tracking(*callbacks: Callback) -> Iterator[None]:
    """Call these for what trainings in the block measure, beside those of blocks around it.

    A callback that has a method `close` is closed in the end.
    """
    token = _CALLBACKS.set((*_CALLBACKS.get(), *callbacks))
    try:
        yield
    finally:
        _CALLBACKS.reset(token)
        for callback in callbacks:
            if hasattr(callback, "close"):
                callback.close()


def callbacks() -> tuple[Callback, ...]:
    """Those that are called now, for processes that a training starts."""
    return _CALLBACKS.get()


def track(folder: Path, step: int, values: Mapping[str, Any]) -> None:
    """Hand numbers on.

    Args:
        folder: Of the run.
        step: Iteration or epoch, from 0.
        values: Name to number; what is no number is left out.
    """
    if not _CALLBACKS.get():
        return
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
    for callback in _CALLBACKS.get():
        callback(folder, step, numbers)


class TensorBoard:
    """Writes the numbers of each run into `<its folder>/tensorboard`."""

    def __init__(self) -> None:
        self._writers: dict[Path, Any] = {}
        _summary_writer()  # that it is missing is said before hours of training

    def __call__(self, folder: Path, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one step."""
        if folder not in self._writers:
            self._writers[folder] = _summary_writer()(str(folder / "tensorboard"))
        for name, value in values.items():
            self._writers[folder].add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_writers": {}}


def tracker(name: str | None) -> tuple[Callback, ...]:
    """The callbacks of a name that a command line gives: none, or "tensorboard".

    Raises:
        CellfeatError: TensorBoard is not installed.
    """
    return (TensorBoard(),) if name == "tensorboard" else ()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CellfeatError("--log tensorboard: tensorboard is not installed", "pip install tensorboard") from None
    return SummaryWriter
