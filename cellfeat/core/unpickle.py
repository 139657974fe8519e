"""Pickles of arrays from elsewhere, read without running what is in them and in bounded memory.

A pickle is a program. Here it may build plain containers, numbers, texts and numpy arrays; any other name is refused
before it is looked up. Python's own implementation does the reading, because the one in C takes memory by the numbers
that it finds in the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from gzip import GzipFile
from typing import IO, Any, ClassVar

import numpy as np

from cellfeat.errors import CellfeatError


def _refused(*_: Any) -> Any:
    raise pickle.UnpicklingError("an array is asked for in a way that numpy does not write")


def _encode(text: str, encoding: str) -> bytes:
    """How Python 2's bytes come in protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        _refused()
    return text.encode("latin1")


class _Array:
    """Stands for numpy.ndarray, which arrays name but which nothing may call: it would take any memory."""

    def __new__(cls, *_: Any) -> Any:
        return _refused()


def _empty_array(*_: Any) -> np.ndarray:
    """An array to be filled by its state, whatever shape the file asks for."""
    return np.empty(0, np.int8)


_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (("_reconstruct", _empty_array), ("scalar", np.float64(0).__reduce__()[0]))
    },
}

_PurePython: Any = pickle._Unpickler  # type: ignore[attr-defined]


class ArrayUnpickler(_PurePython):
    """An unpickler of arrays in plain containers, up to protocol 4.

    Raises:
        CellfeatError: From `load`, where the file names something else; what a damaged file raises is as manifold as
            pickles are.
    """

    dispatch: ClassVar[dict[int, Callable]] = {
        **_PurePython.dispatch,
        pickle.BYTEARRAY8[0]: _refused,  # takes memory before it reads
        pickle.NEXT_BUFFER[0]: _refused,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise CellfeatError(f"names {module}.{name}, which a file of arrays does not need; not loaded") from None


class LimitedReader:
    """A file that ends in an error after `limit` bytes: compressed ones inflate to any size.

    Args:
        file: Binary file to read from.
        limit: Bytes.
    """

    def __init__(self, file: IO[bytes] | GzipFile, limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._file.read(self._allowed(size)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._allowed(-1)))

    def _allowed(self, size: int) -> int:
        return self._left + 1 if size < 0 else min(size, self._left + 1)

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise CellfeatError("holds more than the memory takes; split it, or use a larger machine")
        return content
