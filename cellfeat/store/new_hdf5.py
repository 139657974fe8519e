"""New HDF5 files for which a full disk is an error: HDF5 itself can end the process then."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class _Disk(io.FileIO):
    """A file that HDF5 always can write to: from the first refusal of the disk on, what is written is kept in memory.

    HDF5 reads what it wrote, and ends the process where that is not there.
    """

    refusal: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._kept: list[tuple[int, bytes]] = []  # place and content, in the order of writing

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size, start = len(left), self.tell()
        try:
            while left and self.refusal is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.refusal = error
        if left:
            self._kept.append((start + size - len(left), bytes(left)))
            super().seek(start + size)
        return size

    def readinto(self, buffer: Any) -> int:
        view, start = memoryview(buffer).cast("B"), self.tell()
        size = super().readinto(view) or 0
        if self._kept:
            view[size:] = bytes(len(view) - size)
            for place, content in self._kept:
                begin, end = max(place, start), min(place + len(content), start + len(view))
                if begin < end:
                    view[begin - start : end - start] = content[begin - place : end - place]
            size = len(view)
            super().seek(start + size)
        return size

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self._kept:
            ends = (at + len(content) for at, content in self._kept)
            return super().seek(max(super().seek(0, os.SEEK_END), *ends) + place)
        return super().seek(place, whence)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.tell() if self.refusal else super().truncate(size)
        except OSError as error:
            self.refusal = error
            return self.tell()


class NewHDF5(h5py.File):
    """A new file; a long writer asks it now and then whether the disk has taken all."""

    def __init__(self, path: Path) -> None:
        self._disk, self._path = _Disk(path), path
        super().__init__(self._disk, "w")

    def check(self) -> None:
        """Raise OSError if the disk has refused a part of the file."""
        if refusal := self._disk.refusal:
            raise OSError(refusal.errno, refusal.strerror, str(self._path)) from refusal


@contextmanager
def new_hdf5(path: Path) -> Iterator[NewHDF5]:
    """Yield a new HDF5 file to write to; too large for the memory, else its image is made there (`write_matrix`).

    Raises:
        OSError: The disk refused a part of it: the file is of no use.
    """
    file = NewHDF5(path)
    try:
        with file:
            yield file
    except Exception:
        file.check()
        raise
    finally:
        file._disk.close()
    file.check()
