"""A child process looks at HDF5 files first, so that a forged one ends the child and not this process.

HDF5 is made for files that are what they say; one that was forged can crash it. Whatever this process will have HDF5
do with a file, the child does before, with limits on memory and processor time. If the child ends, the file is refused
with one line and never opened here. A file is looked at once by a process while it stays as it is, and not at all where
the process wrote it. Where no child can be started, files from elsewhere are refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cellfeat.core.child import ended, limit_memory, limit_time, start_child
from cellfeat.errors import CellfeatError, Damaged

if TYPE_CHECKING:
    import h5py

    from cellfeat.store.schema import Element

MEMORY = 4 << 30  # bytes of address space of the child
SECONDS = 60  # of processor time a file
READY, DONE, GREEDY = b"ready", b"done", b"greedy"  # what the child says, a line each

_found: dict[tuple[int, ...], str] = {}  # identity of a file → what is wrong with it, "" for nothing


def trust(path: Path) -> None:
    """Note that this process wrote the file."""
    _found[_identity(path)] = ""


def look_at(paths: Iterable[Path]) -> None:
    """Have a child look at those of the files that are there and were not looked at yet.

    Raises:
        CellfeatError: No child can be started, so that nobody knows what HDF5 would do with them.
    """
    waiting = [path for path in paths if path.is_file() and _identity(path) not in _found]
    while waiting:
        said, status = _ask_child(waiting)
        if READY not in said:
            raise CellfeatError(
                f"{waiting[0]}: the process that looks at files from elsewhere first ended {ended(status)}",
                "check the installation with `cellfeat doctor`",
            )
        answers = said[1:]
        for path, answer in zip(waiting, answers):
            _found[_identity(path)] = "asks for too much memory" if answer == GREEDY else ""
        waiting = waiting[len(answers) :]
        if waiting:  # the child did not live to speak of the first of these
            _found[_identity(waiting.pop(0))] = f"forged or damaged (a trial process ended {ended(status)} on it)"


def problem(path: Path) -> str:
    """What the child found out about a file: "" for one that HDF5 can be given.

    Raises:
        CellfeatError: As `look_at`.
    """
    look_at([path])
    return _found.get(_identity(path), "")


def _identity(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _ask_child(paths: list[Path]) -> tuple[list[bytes], int]:
    """What the child said, in lines, and its exit status."""
    child = start_child(__name__, ("numpy", "h5py"), {"HDF5_PLUGIN_PATH": ""})
    said, _ = child.communicate(b"\0".join(os.fsencode(path.absolute()) for path in paths))
    return said.split(b"\n")[:-1], child.returncode


def main() -> None:
    """The child: look at the files named on standard input, and say a line after each."""
    import h5py  # noqa: F401 - loaded before memory is limited

    from cellfeat.store import guard  # noqa: F401

    names = sys.stdin.buffer.read().split(b"\0")
    limit_memory(MEMORY)
    _say(READY)
    for name in names:
        limit_time(SECONDS)
        try:
            _quietly(_look, Path(os.fsdecode(name)))
            _say(DONE)
        except MemoryError:
            _say(GREEDY)


def _look(path: Path) -> None:
    """Do with a file what readers do: find every element, check it, read the small ones. Errors are left to them."""
    import h5py

    from cellfeat.store.schema import MATRIX_ELEMENTS

    with h5py.File(path, "r", locking=False, rdcc_nbytes=0) as handle:
        _quietly(dict, handle.attrs.items())
        for element in _elements(handle):
            _quietly(_look_at_element, handle, element.name, element.is_array)
        for name in MATRIX_ELEMENTS:
            _quietly(_look_at_element, handle, name, False)


def _elements(handle: h5py.File) -> list[Element]:
    from cellfeat.store.guard import elements_of
    from cellfeat.store.schema import all_elements

    try:
        return elements_of(handle)
    except Damaged:  # whoever opens the file will be told the same
        return list(all_elements())


def _look_at_element(handle: h5py.File, name: str, is_array: bool) -> None:
    import h5py

    from cellfeat.store.chunks import Chunks
    from cellfeat.store.guard import check_dataset, own_dataset

    dataset = own_dataset(handle, name)
    dict(dataset.attrs.items())
    text = h5py.check_string_dtype(dataset.dtype) is not None
    check_dataset(dataset, dataset.shape, "utf-8" if text else str(dataset.dtype))
    dataset.id.get_storage_size()
    if is_array:
        Chunks.of(dataset)  # the chunks themselves are not read by HDF5
    elif text:
        dataset.asstr()[:]
    else:
        step = max(1, (1 << 24) * len(dataset) // max(1, dataset.nbytes))
        for start in range(0, len(dataset), step):
            dataset[start : start + step]


def _quietly(job: Callable[..., object], *arguments: object) -> None:
    try:
        job(*arguments)
    except MemoryError:
        raise
    except Exception:  # whoever opens the file will be told the same
        pass


def _say(word: bytes) -> None:
    sys.stdout.buffer.write(word + b"\n")
    sys.stdout.buffer.flush()
