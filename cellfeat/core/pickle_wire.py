"""What the child that reads a pickle sends: lines of JSON, and the bytes of arrays behind the lines that announce them.

    {"array": ["<f4", [2, 3], false]}   24 bytes follow
    {"value": {"d": [["a", {"a": 0}]]}} the object: a dict with the first array at "a"; nothing follows
    {"error": "..."}                    why there is none; nothing follows

JSON has no tuples, bytes and so on: they are objects with one key (see `_encode` and `_KINDS`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cellfeat.core import unpickle
from cellfeat.core.array_stand_ins import OTHER_LENGTH, Array, Form, Scalar, as_array
from cellfeat.core.torch_stand_ins import Tensor
from cellfeat.core.unpickle import check, refused
from cellfeat.errors import CellfeatError

MAX_DEPTH = 64  # checkpoints have about 5 levels; JSON is read by recursion
MAX_BITS = 1 << 10  # of an integer: Python takes quadratic time to write it in digits


class Encoder:
    """Makes an interpreted pickle into JSON, with every object written out wherever it is used.

    So a list of a thousand references to one list of a thousand, which is small in a pickle, is counted at full size.

    Args:
        limit: Bytes of texts and arrays at most.
        send: Sends a tensor's bytes, gives its place.
    """

    def __init__(self, limit: int, send: Callable[[Tensor], int]) -> None:
        self._limit, self._send = limit, send
        self._bytes = self._objects = 0
        self._places: dict[int, tuple[Tensor, int]] = {}  # by id, which keeps its meaning while the tensor lives

    def encode(self, value: Any, depth: int = 0) -> Any:
        """JSON for a value.

        Raises:
            CellfeatError: It is too large or too deep, or holds a stand-in that is no value.
        """
        if depth > MAX_DEPTH:
            raise CellfeatError(f"nests its objects deeper than {MAX_DEPTH}; not loaded")
        self._count(1, 0)
        kind = type(value)
        if value is None or kind in (bool, float):
            return value
        if kind is int:
            check(value.bit_length() <= MAX_BITS, "an integer of too many digits")
            return value
        if kind in (str, bytes, bytearray):
            self._count(0, len(value))
            return value if kind is str else {"b": _text(value)}
        if kind is list:
            return self._all(value, depth)
        if kind is tuple:
            return {"t": self._all(value, depth)}
        if kind in (set, frozenset):
            return {"s": self._all(value, depth)}
        if kind is dict:
            return {"d": [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]}
        if kind is complex:
            return {"c": [value.real, value.imag]}
        if kind is Scalar:
            self._count(0, len(value.data))
            return {"n": [value.dtype, _text(value.data)]}
        if kind is Array:
            return self._array(value, depth)
        if kind is Tensor:
            return self._tensor(value)
        raise refused("an object that is no value")

    def _all(self, values: Any, depth: int) -> list:
        return [self.encode(value, depth + 1) for value in values]

    def _array(self, array: Array, depth: int) -> Any:
        check(array.filled, "an array without content")
        if array.objects is None:
            self._count(0, array.size)
            return {"a": array.place}
        items = array.objects
        check(len(items) == int(np.prod(array.shape, dtype=object)), OTHER_LENGTH)
        if array.shape == ():
            return self.encode(items[0], depth + 1)
        return nested(self._all(items, depth), array.shape)

    def _tensor(self, tensor: Tensor) -> Any:
        self._count(0, tensor.size)
        if id(tensor) not in self._places:
            self._places[id(tensor)] = tensor, self._send(tensor)
        return {"a": self._places[id(tensor)][1]}

    def _count(self, objects: int, size: int) -> None:
        self._objects += objects
        self._bytes += size
        if self._objects > unpickle.MAX_OBJECTS:
            raise unpickle.too_many()
        if self._bytes > self._limit:
            raise too_large()


def too_large() -> CellfeatError:
    """The error for a file of more bytes than its limit."""
    return CellfeatError("holds more than the memory takes; split it, or use a larger machine")


def nested(items: list, shape: tuple[int, ...]) -> list:
    """The items of an object array as lists in lists."""
    if not items:
        return []
    for size in reversed(shape[1:]):
        items = [items[start : start + size] for start in range(0, len(items), size)]
    return items


def decode(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The value that JSON stands for.

    Args:
        value: From `Encoder.encode`.
        arrays: By place.
    """
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    return _KINDS[kind](content, arrays)


_KINDS: dict[str, Callable[[Any, Sequence[np.ndarray]], Any]] = {
    "a": lambda place, arrays: arrays[place],
    "b": lambda text, _: base64.b64decode(text),
    "c": lambda parts, _: complex(*parts),
    "d": lambda pairs, arrays: {decode(key, arrays): decode(item, arrays) for key, item in pairs},
    "n": lambda parts, _: as_array(Form(parts[0], ()), base64.b64decode(parts[1]))[()],
    "s": lambda items, arrays: {decode(item, arrays) for item in items},
    "t": lambda items, arrays: tuple(decode(item, arrays) for item in items),
}


def _text(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode()
