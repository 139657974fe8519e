"""Pickles from elsewhere: plain, gzipped, numpy's object files (cellpose's `_seg.npy`) and torch's checkpoints.

A child process with bounded memory and time runs the pickle on stand-ins (`cellfeat.core.unpickle`) and sends what it
finds as JSON and bytes (`cellfeat.core.pickle_wire`). Arrays are sent as they are met, so the child stays small.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from cellfeat.core.array_stand_ins import Form, as_array, numpy_names
from cellfeat.core.child import ended, limit_memory, limit_time, start_child
from cellfeat.core.memory import available_memory
from cellfeat.core.pickle_wire import Encoder, decode, too_large
from cellfeat.core.text import printable
from cellfeat.core.torch_stand_ins import LEGACY, Tensor, TorchArchive
from cellfeat.core.unpickle import Interpreter, check, refused
from cellfeat.errors import CellfeatError, Damaged

MEMORY = 4 << 30  # bytes of address space of the child
SECONDS, BYTES_PER_SECOND = 60, 1 << 20  # of processor time: a start, and a second for so many bytes of the file
_MAX_LINE = 1 << 16  # characters of a line that announces an array or an error
_NUMPY, _GZIP, _ZIP = b"\x93NUMPY", b"\x1f\x8b", b"PK\x03\x04"
_NUMPY_HEADER = re.compile(
    r"\{'descr': '([<>|][A-Za-z]\d*)', 'fortran_order': (True|False), 'shape': \(((?:\d+, ?)*\d*)\), \} *\n"
)


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of arrays, or a checkpoint of torch, without running what is in it.

    Args:
        path: A pickle of protocol 0 to 5, plain or gzipped; a .npy file, of objects or of numbers; a checkpoint of
            torch.save. The content says which, not the name.

    Returns:
        Plain containers, texts, numbers and arrays in this machine's byte order. Object arrays are lists, of no
        dimension their object. Tensors are arrays, those of bfloat16 in float32.

    Raises:
        Damaged: The file is none of these, or is cut or forged.
        CellfeatError: There is no such file, it holds more than arrays in plain containers, or more than the memory
            takes.
    """
    path = Path(path)
    if not path.exists():
        raise CellfeatError(f"{path}: no such file")
    if not path.is_file():
        raise CellfeatError(f"{path}: is no file")
    limit = available_memory() // 2
    child = start_child(__name__)
    try:
        return _receive(child, {"path": str(path.absolute()), "limit": limit}, limit)
    except CellfeatError as error:
        raise type(error)(f"{path}: {error.what}", error.remedy) from None
    except MemoryError:
        raise CellfeatError(f"{path}: {too_large()}") from None
    finally:
        child.kill()
        child.communicate()


def _receive(child: subprocess.Popen[bytes], request: dict[str, Any], limit: int) -> Any:
    """What the child sends; sizes are checked before memory is taken."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError), child.stdin as stdin:  # a child that has ended says how below
        stdin.write(json.dumps(request).encode())
    child.stdin = None
    arrays: list[np.ndarray] = []
    while line := child.stdout.readline(max(limit, _MAX_LINE)):
        [(kind, content)] = json.loads(line).items()
        if kind == "value":
            return decode(content, arrays)
        if kind == "error":
            raise {"Damaged": Damaged}.get(content[0], CellfeatError)(content[1])
        form = Form(content[0], tuple(content[1]), content[2])
        limit -= form.nbytes
        if limit < 0:
            raise too_large()
        data = np.empty(form.nbytes, np.uint8)
        if child.stdout.readinto(data) != form.nbytes:  # type: ignore[attr-defined]
            break
        arrays.append(as_array(form, data))
    raise Damaged(f"not a file of arrays, or damaged (the process that read it ended {ended(child.wait())})")


def main() -> None:
    """The child: read the file named on standard input."""
    request = json.load(sys.stdin)
    path, limit = request["path"], request["limit"]
    sender = Sender(limit)
    limit_memory(MEMORY)
    limit_time(SECONDS + os.path.getsize(path) // BYTES_PER_SECOND)
    try:
        with open(path, "rb") as file:
            answer = {"value": interpret(file, os.path.getsize(path), limit, sender)}
        line = json.dumps(answer).encode()
    except CellfeatError as error:
        line = json.dumps({"error": [type(error).__name__, str(error)]}).encode()
    except MemoryError:
        line = json.dumps({"error": ["CellfeatError", "asks for too much memory; not loaded"]}).encode()
    _write(line + b"\n")


def interpret(file: IO[bytes], size: int, limit: int, sender: Sender) -> Any:
    """The content of an open file as JSON of `pickle_wire`.

    Args:
        file: At its beginning.
        size: Of the file, bytes.
        limit: Bytes that the content may have.
        sender: Takes the arrays.

    Raises:
        CellfeatError: It is not what cellfeat reads.
    """
    start = file.read(64)
    file.seek(0)
    if start.startswith(_ZIP) or LEGACY in start[:16]:
        archive = TorchArchive(file, size, sender.array)
        encoder = Encoder(limit, lambda tensor: sender.array(*tensor.read(archive.read(tensor.storage))))
        return encoder.encode(archive.load())
    encoder = Encoder(limit, _no_tensor)
    if start.startswith(_GZIP):
        with gzip.open(file) as inflated:
            return encoder.encode(_run(LimitedReader(inflated, limit), sender))
    if start.startswith(_NUMPY):
        return _numpy_file(file, size, encoder, sender)
    return encoder.encode(_run(LimitedReader(file, size), sender))


def _run(stream: LimitedReader, sender: Sender) -> Any:
    try:
        return Interpreter(stream, numpy_names(sender.array)).run()
    except (OSError, EOFError, zlib.error) as error:
        raise refused(printable(str(error))) from None


def _numpy_file(file: IO[bytes], size: int, encoder: Encoder, sender: Sender) -> Any:
    """A .npy file: its header is matched as a text, never evaluated."""
    version = file.read(8)[6:]
    check(version in (b"\1\0", b"\2\0", b"\3\0"), "a .npy file of an unknown version")
    length = int.from_bytes(file.read(2 if version == b"\1\0" else 4), "little")
    check(length <= _MAX_LINE, "a .npy file with a header of another kind")
    header = _NUMPY_HEADER.fullmatch(file.read(length).decode("latin-1"))
    if header is None:
        raise refused("a .npy file with a header of another kind")
    stream = LimitedReader(file, size)
    if header[1] in ("|O", "|O8", "|O4"):
        return encoder.encode(_run(stream, sender))
    form = Form(header[1], tuple(int(n) for n in header[3].replace(" ", "").split(",") if n), header[2] == "True")
    check(form.nbytes <= size, "an array has more bytes than the file")
    return {"a": sender.array(form, stream.read(form.nbytes))}


def _no_tensor(_: Tensor) -> int:
    raise refused("a tensor outside of a checkpoint")


class LimitedReader:
    """A file that ends in an error after `limit` bytes: compressed ones inflate to any size.

    Args:
        file: Binary file to read from.
        limit: Bytes.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int) -> bytes:
        return self._counted(self._file.read(min(size, self._left + 1)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise too_large()
        return content


class Sender:
    """Sends arrays to the parent as they are met.

    Args:
        limit: Bytes of all of them at most.
    """

    def __init__(self, limit: int) -> None:
        self._left, self._count = limit, 0

    def array(self, form: Form, data: bytes) -> int:
        """Send an array, and give its place."""
        self._left -= len(data)
        if self._left < 0:
            raise too_large()
        as_array(form, data)
        self.send(form, data)
        self._count += 1
        return self._count - 1

    def send(self, form: Form, data: bytes) -> None:
        _write(json.dumps({"array": [form.dtype, form.shape, form.fortran]}).encode() + b"\n")
        _write(data)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
