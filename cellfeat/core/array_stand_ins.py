"""Stand-ins for numpy's objects in a pickle, and the only way from a file's bytes to an array.

numpy's own `__setstate__` trusts what it is given: a forged state makes it read outside of its memory. So a dtype is a
text out of a short list, a shape is checked against the number of bytes, and `numpy.frombuffer` does the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cellfeat.core.text import printable
from cellfeat.core.unpickle import Name, StandIn, check, check_key, refused
from cellfeat.errors import CellfeatError

# Booleans, integers, floats of up to 64 bits and their complex numbers, bytes and texts of fixed length.
_DTYPE = re.compile(r"(b1|[iu][1248]|f[248]|c8|c16|[SU](0|[1-9]\d{0,7}))")
_OBJECT = re.compile(r"O[48]?")  # the bytes of a pointer: 4 on a 32-bit machine
OTHER_LENGTH = "an object array of another length than its shape"
MAX_DIMENSIONS = 32  # numpy 1's limit
_CODE_POINTS = 0x110000  # of Unicode

Sink = Callable[["Form", bytes], int]


class Form(NamedTuple):
    """What an array is like: dtype such as "<f4", shape, and whether its bytes are in Fortran's order."""

    dtype: str
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that it takes.

        Raises:
            CellfeatError: It is not the form of an array that cellfeat reads.
        """
        check(type(self.dtype) is str and self.dtype[:1] in ("<", ">", "|"), "an array without byte order")
        _check_code(self.dtype[1:])
        check_shape(self.shape)
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def check_shape(shape: Any) -> None:
    """Refuse what is not a shape; its size is not looked at."""
    check(type(shape) is tuple and len(shape) <= MAX_DIMENSIONS, "a shape that is none")
    check(all(type(n) is int and 0 <= n < 1 << 48 for n in shape), "a shape that is none")


def as_array(form: Form, data: Any) -> np.ndarray:
    """An array over a buffer, in this machine's byte order.

    Args:
        form: What the array is like.
        data: Object with the buffer protocol; the array shares its memory where nothing has to be swapped.

    Raises:
        CellfeatError: The buffer has another size, or values that numpy does not survive.
    """
    check(len(memoryview(data).cast("B")) == form.nbytes, "an array has more or fewer bytes than its shape")
    dtype = np.dtype(form.dtype)
    if form.nbytes == 0:
        check(math.prod(n for n in form.shape if n) < 1 << 48, "a shape that is none")
        return np.zeros(form.shape, dtype.newbyteorder("="))
    flat = np.frombuffer(data, dtype)
    if dtype.kind == "b":
        check(flat.view(np.uint8).max() <= 1, "truth values other than 0 and 1")
    if dtype.kind == "U":
        check(flat.view(dtype.str[0] + "u4").max() < _CODE_POINTS, "a text with impossible characters")
    array = flat.reshape(form.shape[::-1]).T if form.fortran else flat.reshape(form.shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _check_code(code: str) -> None:
    if not _DTYPE.fullmatch(code):
        raise CellfeatError(f"holds an array of dtype {printable(code, 20)!r}; numbers and texts are read")


class Dtype(StandIn):
    """numpy.dtype(code, align, copy), whose state holds its byte order."""

    def __init__(self, arguments: tuple) -> None:
        check(1 <= len(arguments) <= 3 and type(arguments[0]) is str, "a dtype that is none")
        code = arguments[0]
        self.is_object = bool(_OBJECT.fullmatch(code))
        if not self.is_object:
            _check_code(code)
        self._code, self._order = code, "|"

    def build(self, state: Any) -> None:
        check(type(state) is tuple and len(state) == 8 and type(state[0]) is int, "a dtype's state that is none")
        _, order, base, names, fields, *_ = state
        check(base is None and names is None and fields is None, "a dtype of fields")
        check(order in ("<", ">", "|", "="), "a dtype's byte order that is none")
        self._order = "<" if order == "=" else order

    @property
    def text(self) -> str:
        """The dtype as `Form` has it."""
        return self._order + self._code


class Array(StandIn):
    """An array that the sink has taken over: it keeps where the sink put it, or the list of an object array.

    Args:
        sink: Takes an array's form and bytes, gives its place.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.place = -1
        self.size = 0  # bytes
        self.objects: list | None = None
        self.shape: tuple[int, ...] = ()

    @property
    def filled(self) -> bool:
        return self.place >= 0 or self.objects is not None

    def build(self, state: Any) -> None:
        check(type(state) is tuple and len(state) in (4, 5), "an array's state that is none")
        self.fill(*state[-4:])

    def fill(self, shape: Any, dtype: Any, fortran: Any, data: Any) -> None:
        """Give the array its content.

        Raises:
            CellfeatError: It is not what numpy writes, or the array has its content already.
        """
        check(not self.filled, "an array that is filled twice")
        check(type(dtype) is Dtype, "an array without dtype")
        check_shape(shape)
        self.shape = shape
        if dtype.is_object:
            check(type(data) is list and len(data) == math.prod(shape), OTHER_LENGTH)
            self.objects = data
            return
        content = data.encode("latin-1") if type(data) is str else data  # Python 2's bytes
        form = Form(dtype.text, shape, bool(fortran))
        check(type(content) in (bytes, bytearray) and len(content) == form.nbytes, "an array without its bytes")
        self.size = len(content)
        self.place = self._sink(form, content)


class Scalar(StandIn):
    """A number or text of numpy."""

    def __init__(self, arguments: tuple) -> None:
        check(len(arguments) == 2 and type(arguments[0]) is Dtype, "a number without dtype")
        dtype, data = arguments
        data = data.encode("latin-1") if type(data) is str else data
        check(not dtype.is_object and type(data) is bytes, "a number without its bytes")
        self.dtype, self.data = dtype.text, data
        as_array(Form(self.dtype, ()), data)


def numpy_names(sink: Sink) -> Mapping[tuple[str, str], Name]:
    """The names that pickles of arrays in plain containers need, in the words of Python 2 and 3 and numpy 1 and 2.

    Args:
        sink: Takes each array's form and bytes as soon as they are known, and gives the array's place.
    """

    def reconstruct(arguments: tuple) -> Array:
        kind = arguments[0] if arguments else None
        check(type(kind) is Name and kind.text == "numpy.ndarray", "an array of a class of its own")
        return Array(sink)

    def from_buffer(arguments: tuple) -> Array:  # protocol 5
        check(len(arguments) == 4 and arguments[3] in ("C", "F"), "an array that is none")
        data, dtype, shape, order = arguments
        array = Array(sink)
        array.fill(shape, dtype, order == "F", data)
        return array

    made: dict[tuple[str, str], Callable[[tuple], Any] | None] = {
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): Dtype,
        ("collections", "OrderedDict"): _ordered_dict,
        ("_codecs", "encode"): _encode,
    }
    for package in ("numpy.core", "numpy._core"):
        made[f"{package}.multiarray", "_reconstruct"] = reconstruct
        made[f"{package}.multiarray", "scalar"] = Scalar
        made[f"{package}.numeric", "_frombuffer"] = from_buffer
    for module in ("builtins", "__builtin__"):
        made[module, "bytes"] = _empty_bytes
        made[module, "bytearray"] = _bytearray
        made[module, "complex"] = _complex
        made[module, "set"] = made[module, "frozenset"] = _set
    return {names: Name(".".join(names), make) for names, make in made.items()}


def _ordered_dict(arguments: tuple) -> dict:
    check(len(arguments) <= 1, "a dict that is none")
    found = {}
    for pair in _list(arguments[0]) if arguments else ():
        check(type(pair) in (list, tuple) and len(pair) == 2, "a dict that is none")
        check_key(pair[0])
        found[pair[0]] = pair[1]
    return found


def _encode(arguments: tuple) -> bytes:
    """How protocols 0 to 2 write bytes."""
    check(
        len(arguments) == 2 and type(arguments[0]) is str and arguments[1] in ("latin1", "latin-1"), "a text's coding"
    )
    return arguments[0].encode("latin-1")


def _empty_bytes(arguments: tuple) -> bytes:
    check(arguments == (), "bytes that are none")
    return b""


def _bytearray(arguments: tuple) -> bytearray:
    if arguments and type(arguments[0]) is str:
        return bytearray(_encode(arguments))
    check(len(arguments) <= 1 and all(type(data) is bytes for data in arguments), "bytes that are none")
    return bytearray(*arguments)


def _complex(arguments: tuple) -> complex:
    check(len(arguments) == 2 and all(type(part) is float for part in arguments), "a complex number that is none")
    return complex(*arguments)


def _set(arguments: tuple) -> set:
    check(len(arguments) == 1, "a set that is none")
    items = _list(arguments[0])
    for item in items:
        check_key(item)
    return set(items)


def _list(value: Any) -> list:
    if type(value) is not list:
        raise refused("a list that is none")
    return value
