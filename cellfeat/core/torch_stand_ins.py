"""Stand-ins for torch's tensors in a checkpoint: the file says where a tensor lies, and each number is checked.

`torch.load(weights_only=True)` runs no code of the file, but believes the sizes that it states for storages.
Here a tensor is a view of bytes that are really there.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from cellfeat.core.array_stand_ins import Form, Sink, check_shape, numpy_names
from cellfeat.core.text import printable
from cellfeat.core.unpickle import Interpreter, Name, StandIn, check, refused
from cellfeat.errors import CellfeatError

BFLOAT16 = "bfloat16"
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
}
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # LONG1 of torch's magic number: how its files before 1.6 go on after PROTO
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error)
_LITTLE = "<" if sys.byteorder == "little" else ">"


class Storage(StandIn):
    """Numbers in a row, elsewhere in the file.

    Args:
        code: Their dtype without byte order, or BFLOAT16.
        key: The storage's name.
        count: How many there should be.
    """

    def __init__(self, code: str, key: str, count: int) -> None:
        self.code, self.key, self.count = code, key, count

    @property
    def itemsize(self) -> int:
        return 2 if self.code == BFLOAT16 else np.dtype(self.code).itemsize


class Tensor(StandIn):
    """A view of a storage.

    Args:
        arguments: Storage, offset, shape and strides in elements, as torch._utils._rebuild_tensor_v2 takes them.
    """

    def __init__(self, arguments: tuple) -> None:
        check(len(arguments) >= 4, "a tensor that is none")
        storage, offset, shape, strides = arguments[:4]
        check(isinstance(storage, Storage) and type(offset) is int and offset >= 0, "a tensor without storage")
        check_shape(shape)
        check_shape(strides)
        check(len(shape) == len(strides), "a tensor with more or fewer strides than its shape")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
        check(math.prod(shape) == 0 or last < storage.count, "a tensor that leaves its storage")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * max(4, self.storage.itemsize)

    def read(self, storage: bytes) -> tuple[Form, bytes]:
        """The tensor as an array's form and bytes. bfloat16 becomes float32, which holds each of its values.

        Args:
            storage: The bytes of the storage, in this machine's order.
        """
        size = self.storage.itemsize
        check(len(storage) == self.storage.count * size, "a storage has more or fewer bytes than it should")
        wide = self.storage.code == BFLOAT16
        flat = np.frombuffer(storage, "u2" if wide else self.storage.code)
        if math.prod(self.shape) == 0:
            return Form(_order("f4" if wide else self.storage.code), self.shape), b""
        view = as_strided(flat[self.offset :], self.shape, [stride * size for stride in self.strides], writeable=False)
        if wide:
            view = (view.astype(np.uint32) << 16).view(np.float32)
        return Form(_order(view.dtype.str[1:]), self.shape), view.tobytes()


def _order(code: str) -> str:
    return ("|" if code[1:] == "1" else _LITTLE) + code


class TorchArchive:
    """A checkpoint as torch.save writes it: a zip archive, or before torch 1.6 pickles and storages in a row.

    Args:
        file: The open file, at its beginning.
        size: Its size in bytes.
        sink: Takes arrays of numpy.
    """

    def __init__(self, file: IO[bytes], size: int, sink: Sink) -> None:
        self._file, self._size, self._names = file, size, torch_names(sink)
        self._last: tuple[str, bytes] = ("", b"")
        self._sizes: dict[str, int] = {}  # of an element of each storage
        self._at: dict[str, tuple[int, int]] = {}  # where a storage lies in a file without archive, and its count
        self._zip: zipfile.ZipFile | None = None
        self._root = ""

    def load(self) -> Any:
        """The object that was saved, with stand-ins in it.

        Raises:
            CellfeatError: It is damaged, compressed, or holds more than tensors.
        """
        start = self._file.read(2)
        self._file.seek(0)
        return self._load_zip() if start == b"PK" else self._load_legacy()

    def read(self, storage: Storage) -> bytes:
        """The bytes of a storage, in this machine's order."""
        if self._last[0] != storage.key:
            self._last = ("", b"")  # frees the memory
            self._last = (storage.key, self._read(storage))
        return self._last[1]

    def _read(self, storage: Storage) -> bytes:
        if self._zip is not None:
            return self._record(f"data/{storage.key}")
        check(storage.key in self._at, "a storage is missing")
        start, count = self._at[storage.key]
        check(count == storage.count, "a storage has more or fewer numbers than it should")
        self._file.seek(start)
        return self._file.read(count * storage.itemsize)

    def _load_zip(self) -> Any:
        try:
            self._zip = zipfile.ZipFile(self._file)
            roots = [name[: -len("data.pkl")] for name in self._zip.namelist() if name.endswith("/data.pkl")]
            check(len(roots) == 1, "an archive without one data.pkl")
            self._root = roots[0]
            check(f"{self._root}constants.pkl" not in self._zip.namelist(), "a TorchScript archive; save a state dict")
            if f"{self._root}byteorder" in self._zip.namelist():
                check(self._record("byteorder") == sys.byteorder.encode(), "the byte order of another machine")
            return Interpreter(io.BytesIO(self._record("data.pkl")), self._names, self._storage).run()
        except _ZIP_ERRORS as error:
            raise refused(printable(str(error))) from None

    def _record(self, name: str) -> bytes:
        assert self._zip is not None
        try:
            entry = self._zip.getinfo(self._root + name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise CellfeatError("its parts are compressed, as torch.save never does; not loaded")
            check(entry.file_size <= self._size, "a part is larger than the file")
            return self._zip.read(entry)
        except (*_ZIP_ERRORS, KeyError, EOFError, RuntimeError) as error:
            raise refused(f"its part {name} {printable(str(error), 60)}") from None

    def _load_legacy(self) -> Any:
        interpreter = Interpreter(self._file, self._names, self._storage)
        interpreter.run(), interpreter.run(), interpreter.run()  # magic number, version, sizes of C's types
        content, keys = interpreter.run(), interpreter.run()
        check(type(keys) is list and all(type(key) is str for key in keys), "a list of storages that is none")
        for key in keys:
            check(key in self._sizes, "a storage that nothing uses")
            count = int.from_bytes(self._file.read(8), "little")
            check(count < 1 << 48, "a storage that is none")
            self._at[key] = self._file.tell(), count
            self._file.seek(count * self._sizes[key], 1)
        return content

    def _storage(self, value: Any) -> Storage:
        """The storage that a persistent id stands for: ("storage", class, key, device, count)."""
        check(type(value) is tuple and len(value) in (5, 6) and value[0] == "storage", "an object outside of the file")
        kind, key, count = value[1], value[2], value[4]
        check(type(kind) is Name and kind.text.startswith("torch."), "a storage of no class")
        check(
            kind.text[6:] in _STORAGES and type(key) is str and key.isascii() and key.isalnum(),
            "a storage that is none",
        )
        check(type(count) is int and 0 <= count < 1 << 48, "a storage that is none")
        check(len(value) == 5 or value[5] is None, "a storage that is a view")
        storage = Storage(_STORAGES[kind.text[6:]], key, count)
        self._sizes[key] = storage.itemsize
        return storage


def torch_names(sink: Sink) -> Mapping[tuple[str, str], Name]:
    """The names that state dicts and training states need; `sink` takes arrays of numpy."""
    made: dict[tuple[str, str], Callable[[tuple], Any] | None] = {
        ("torch._utils", "_rebuild_tensor_v2"): Tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch", "Size"): _size,
        **{("torch", name): None for name in _STORAGES},
    }
    return {**numpy_names(sink), **{names: Name(".".join(names), make) for names, make in made.items()}}


def _parameter(arguments: tuple) -> Tensor:
    check(arguments and isinstance(arguments[0], Tensor), "a parameter that is none")
    return arguments[0]


def _size(arguments: tuple) -> tuple:
    check(len(arguments) == 1 and type(arguments[0]) in (list, tuple), "a shape that is none")
    return tuple(arguments[0])
