"""Chunks as they lie in a shard: packing and reading them with HDF5's filters, but without its one lock.

HDF5 filters chunks one after the other, whatever the number of threads. A chunk of a shard is one cell, so here cells
are packed and read side by side, straight from and into their array; every HDF5 tool reads the same bytes. A chunk that
gzip would hardly shrink is stored as it is, which HDF5 notes in the chunk's filter mask.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from cellfeat.errors import Damaged, one_line
from cellfeat.store.schema import REPAIR

GZIP, SHUFFLE, FLETCHER32 = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32
PIPELINE = (SHUFFLE, GZIP, FLETCHER32)  # in this order, as h5py has it; a dataset may leave some out
NO_GZIP = 0b011  # filter mask of a chunk of this pipeline that is stored as it is: bit k set, filter k left out
GZIP_LEVEL = 1  # higher levels save a few percent of masks more and take several times as long
SAVES = 0.25  # share of its bytes that gzip must save; it costs ten times the rest of writing and most of reading
THREADS = 4  # reading waits for the disk as often as for a core
PIECE = 16  # rows that a thread reads at a time

_BLOCK = 1 << 13  # words summed at a time: exact in float64, and too few for BLAS to start threads
_WEIGHTS = np.arange(_BLOCK, 0, -1, dtype=np.float64)


class Packed(NamedTuple):
    """One chunk as it is stored: its bytes, fletcher32 at the end, and whether they are shuffled and gzipped."""

    stored: bytes | bytearray
    gzipped: bool


def pack(values: np.ndarray, gzip_level: int) -> Packed:
    """Pack one chunk.

    Args:
        values: The chunk, contiguous.
        gzip_level: 1 to 9 to try gzip, which is kept if it `SAVES` enough; 0 not to.
    """
    raw = values.reshape(-1).view(np.uint8)
    if gzip_level:
        shuffled = np.ascontiguousarray(raw.reshape(-1, values.itemsize).T)
        packed = zlib.compress(shuffled.data, gzip_level)
        if len(packed) <= (1 - SAVES) * raw.size:
            return Packed(packed + fletcher32(packed), True)
    return Packed(b"".join((raw.data, fletcher32(raw))), False)


@dataclass(frozen=True)
class Chunks:
    """Where the chunks of one array of a shard lie, and how they are stored.

    Attributes:
        path: The shard.
        name: The array.
        filters: The dataset's filters in their order.
        address: (n,) int64, byte of the file at which the chunk of row k begins.
        size: (n,) int64, bytes stored.
        mask: (n,) int64, bit k set where filter k was left out.
    """

    path: Path
    name: str
    filters: tuple[int, ...]
    address: np.ndarray
    size: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Chunks:
        """The chunks of a dataset of one row a chunk that the guard has let pass."""
        found: list[tuple[int, int, int, int]] = []

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            address = min(chunk.byte_offset, 1 << 62)  # a forged one may be anywhere
            found.append((chunk.chunk_offset[0], address, chunk.size, chunk.filter_mask))

        dataset.id.chunk_iter(note)
        _, address, size, mask = np.array(sorted(found), np.int64).reshape(-1, 4).T
        return cls(Path(dataset.file.filename), dataset.name[1:], filters_of(dataset), address, size, mask)

    def packed_row(self, file: FileIO, row: int) -> Packed | None:
        """The chunk of `row` as it is stored; None where it is filtered in another way than `pack` does it.

        Raises:
            OSError, ValueError: The chunk is damaged.
        """
        applied = set(self._applied(row))
        if applied not in ({FLETCHER32}, set(PIPELINE)):
            return None
        stored = bytearray(int(self.size[row]))
        _check_size(_read_at(file, int(self.address[row]), stored), len(stored))
        _check_sum(stored[:-4], stored[-4:])
        return Packed(stored, GZIP in applied)

    def _applied(self, row: int) -> list[int]:
        mask = int(self.mask[row])
        return [name for k, name in enumerate(self.filters) if not mask >> k & 1]

    def read_row(self, file: FileIO, row: int, out: np.ndarray) -> None:
        """Read the chunk of `row` from the open shard into `out`, one contiguous row of the array.

        Raises:
            OSError, ValueError, zlib.error: The chunk is damaged.
        """
        target = out.reshape(-1).view(np.uint8)
        size, applied = int(self.size[row]), self._applied(row)
        if GZIP not in applied and SHUFFLE not in applied:  # stored as it is: no second copy
            stored = bytearray(4 * len(applied))
            _check_size(size, target.size + len(stored))
            _check_size(_read_at(file, int(self.address[row]), target.data, stored), size)
            if applied:
                _check_sum(target, stored)
            return
        packed = bytearray(size)
        _check_size(_read_at(file, int(self.address[row]), packed), size)
        if FLETCHER32 in applied:
            packed, stored = packed[:-4], packed[-4:]
            _check_sum(packed, stored)
        data: bytes | bytearray = packed
        if GZIP in applied:
            data = zlib.decompressobj().decompress(packed, target.size)  # never more than the row takes
        _check_size(len(data), target.size)
        raw = np.frombuffer(data, np.uint8)
        if SHUFFLE in applied:
            target.reshape(-1, out.itemsize)[:] = raw.reshape(out.itemsize, -1).T
        else:
            target[:] = raw


def filters_of(dataset: h5py.Dataset) -> tuple[int, ...]:
    """The ids of a dataset's filters, in the order in which they are applied."""
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(k)[0] for k in range(plist.get_nfilters()))


def read_packed(chunks: Chunks, rows: np.ndarray, shape: tuple[int, ...], dtype: str) -> list[Packed]:
    """Read chunks as they are stored; those that were filtered in another way than `pack` does it are packed again.

    Args:
        chunks: Of one array of a shard.
        rows: (k,) rows of the shard.
        shape, dtype: Of one row.

    Raises:
        Damaged: A chunk is.
    """
    packed = []
    with _damage_named(chunks), FileIO(chunks.path) as file:
        for row in rows.tolist():
            found = chunks.packed_row(file, row)
            if found is None:
                values = np.empty(shape, dtype)
                chunks.read_row(file, row, values)
                found = pack(values, GZIP_LEVEL)
            packed.append(found)
    return packed


def read_rows(pieces: Sequence[tuple[Chunks, np.ndarray, np.ndarray]], out: np.ndarray) -> None:
    """Read rows of several shards at once.

    Args:
        pieces: (chunks, rows of the shard (k,), indices into `out` (k,)), a piece for each thread to take in turn.
        out: (n, ...) contiguous, filled at these indices.

    Raises:
        Damaged: A chunk is.
    """

    def read(piece: tuple[Chunks, np.ndarray, np.ndarray]) -> None:
        chunks, rows, indices = piece
        with _damage_named(chunks), FileIO(chunks.path) as file:
            for row, index in zip(rows.tolist(), indices.tolist()):
                chunks.read_row(file, row, out[index])

    if len(pieces) < 2:
        for piece in pieces:
            read(piece)
        return
    with ThreadPoolExecutor(min(THREADS, len(pieces))) as pool:
        for _ in pool.map(read, pieces):
            pass


@contextmanager
def _damage_named(chunks: Chunks) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, zlib.error) as error:
        raise Damaged(f"{chunks.path}: cannot read {chunks.name} ({one_line(error)})", REPAIR) from error


def fletcher32(data: bytes | bytearray | np.ndarray) -> bytes:
    """HDF5's checksum of a chunk, as its four bytes are in the file.

    Two sums modulo 65535 over big-endian 16-bit words, of the words and of the running sums (H5checksum.c). Reading
    little-endian words multiplies both by 256, since 256 · 256 is 1 modulo 65535.
    """
    raw = np.frombuffer(data, np.uint8)
    words = np.append(raw, np.uint8(0)).view("<u2") if raw.size % 2 else raw.view("<u2")
    one = two = 0
    for start in range(0, len(words), _BLOCK):
        part = words[start : start + _BLOCK].astype(np.float64)
        two += len(part) * one + int(part @ _WEIGHTS[_BLOCK - len(part) :])
        one += int(np.add.reduce(part))
    return b"".join(_folded(total).to_bytes(2, "little") for total in (one, two))


def _folded(total: int) -> int:
    """A sum modulo 65535 as the end-around carry leaves it: 0 for nothing but zeros, else 1 to 65535."""
    return (256 * total - 1) % 65535 + 1 if total else 0


def _read_at(file: FileIO, address: int, *buffers: memoryview | bytearray) -> int:
    """Fill the buffers from `address` of the file on, in one call, lest the system read ahead; the bytes read."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), buffers, address)
    file.seek(address)
    return sum(file.readinto(buffer) for buffer in buffers)


def _check_size(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"a chunk has {found} bytes, should have {wanted}")


def _check_sum(data: bytearray | np.ndarray, stored: bytearray) -> None:
    if fletcher32(data) != stored:
        raise ValueError("a chunk's fletcher32 is another")
