"""New HDF5 files for which a full disk is an error: HDF5 itself can end the process then."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class _Disk(io.FileIO):
    """A file that HDF5 always can write to: what the disk refuses is dropped, and the first refusal kept."""

    refusal: OSError | None = None

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.refusal = self.refusal or error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return self.tell()


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield a new HDF5 file to write to; too large for the memory, else its image is made there (`write_matrix`).

    Raises:
        OSError: The disk refused a part of it: the file is of no use.
    """
    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w") as file:
                yield file
        except Exception:
            if disk.refusal is None:
                raise
    if disk.refusal is not None:
        raise OSError(disk.refusal.errno, disk.refusal.strerror, str(path)) from disk.refusal
