"""The readers that benchmarks/fuzz.py feeds: where their seed files come from, and how a file is read."""

from __future__ import annotations

import gzip
import io
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cellfeat.core.array_stand_ins import Form, as_array
from cellfeat.core.pickle_file import interpret
from cellfeat.core.pickle_wire import decode

CORPUS = Path(__file__).parents[1] / "tests"


@dataclass
class Reader:
    """A reader under test.

    Args:
        name: Short name.
        seeds: Gives sound files to start from.
        read: Reads a file's content: given a folder to write to, the content, and the case's number in its batch.
        split: Cuts a seed into the pieces that its format is made of.
        words: Pieces of the format, to be put anywhere.
        prepare: Called once a batch, with the folder and every content.
        batch: Cases of a child; 0: the usual number.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, bytes, int], object]
    split: Callable[[bytes], list[bytes]] | None = None
    words: list[bytes] = field(default_factory=list)
    prepare: Callable[[Path, list[bytes]], object] = lambda folder, contents: None
    batch: int = 0


def corpus(folder: str, pattern: str = "*") -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted((CORPUS / folder).glob(pattern))]


class _Collector:
    """Keeps the arrays that a child would send."""

    def __init__(self) -> None:
        self.arrays: list = []

    def array(self, form: Form, data: bytes) -> int:
        self.arrays.append(as_array(form, data))
        return len(self.arrays) - 1


def read_pickle(_: Path, content: bytes, __: int) -> object:
    """A pickle or a checkpoint as the child of `cellfeat.core.pickle_file` reads it, and as the parent receives it."""
    collector = _Collector()
    return decode(interpret(io.BytesIO(content), len(content), 1 << 26, collector), collector.arrays)


def opcodes(content: bytes) -> list[bytes]:
    """A pickle cut at its opcodes; what does not belong to one is a piece."""
    starts = [0]
    while starts[-1] < len(content):
        try:
            found = [position for _, _, position in pickletools.genops(content[starts[-1] :])]
        except ValueError:
            break
        starts += [starts[-1] + position for position in found[1:]]
        starts.append(starts[-1] + 1)
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)])]


def pickles() -> list[bytes]:
    """Pickles of all kinds, inflated."""
    seeds = corpus("core/data/pickles")()
    return [gzip.decompress(seed) if seed.startswith(b"\x1f\x8b") else seed for seed in seeds]


def read_checkpoint(folder: Path, content: bytes, number: int) -> object:
    """A pickle as the part data.pkl of a checkpoint."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, size in enumerate((24, 4, 8, 8)):
            archive.writestr(f"archive/data/{key}", bytes(size))
    return read_pickle(folder, file.getvalue(), number)


def pickles_of_checkpoints() -> list[bytes]:
    with zipfile.ZipFile(CORPUS / "core/data/pickles/new.pth") as archive:
        return [archive.read("new/data.pkl")]


READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "pickle",
            pickles,
            read_pickle,
            opcodes,
            [opcode.code.encode("latin-1") for opcode in pickletools.opcodes],
        ),
        Reader("checkpoint", pickles_of_checkpoints, read_checkpoint, opcodes),
        Reader("pickle-file", corpus("core/data/pickles"), read_pickle),
    )
}
