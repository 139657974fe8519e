"""Feeds mutated files to every reader: each must end in a value or in one line. Figures for docs/reliability.md.

    python benchmarks/fuzz.py --output fuzz --cases 40000            # every reader: 10^6 cases
    python benchmarks/fuzz.py --output fuzz --cases 100000 pickle    # one of them

Case k of a reader is always the same one: its seed file, its mutations and so its content follow from k. The counts lie
in OUTPUT/counts.json, so that a run goes on where the last one ended; what ended in a traceback or a signal, or took
longer than `SECONDS`, is kept as a file in OUTPUT/found. Readers run in forked children (POSIX), with bounded memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from docs_page import put
from fuzz_readers import READERS, Reader

from cellfeat.core.files import write_json
from cellfeat.errors import CellfeatError

SECONDS = 20  # of processor time a case
WAITS = 600  # seconds of wall-clock time a case, which may wait for other work on the machine
MEMORY = 6 << 30  # bytes of address space of a child
BATCH = 2000  # cases of one child
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]


def mutate(content: bytes, others: list[bytes], words: list[bytes], rng: random.Random) -> bytes:
    """A seed file with one to six changes: bytes, numbers, words of the format, pieces of it and of other seeds."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        position = rng.randrange(len(changed) + 1)
        end = position + int(rng.paretovariate(0.7))
        kind = rng.randrange(9)
        if kind == 0:
            changed[position : position + 1] = bytes([rng.randrange(256)])
        elif kind == 1 and position < len(changed):
            changed[position] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del changed[position:end]
        elif kind == 3:
            start = rng.randrange(len(changed) + 1)
            changed[position:position] = changed[start : start + end - position][: 1 << 16]
        elif kind == 4:
            number = struct.pack(rng.choice("<>") + "Q", rng.choice(NUMBERS))
            size = rng.choice((1, 2, 4, 8))
            changed[position : position + size] = number[:size]
        elif kind == 5 and words:
            changed[position : position + rng.choice((0, 0, 1, 4))] = rng.choice(words)
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            changed[position:end] = other[start : start + end - position][: 1 << 16]
        elif kind == 7:
            changed[position:position] = changed[position:end] * rng.choice((2, 10, 200))
            del changed[1 << 20 :]
        else:
            del changed[position:]
    return bytes(changed)


def mutate_pieces(pieces: list[bytes], others: list[bytes], rng: random.Random) -> bytes:
    """A seed file with one to four of its pieces left out, doubled, swapped, or replaced by those of other seeds."""
    changed = list(pieces)
    for _ in range(rng.choice((1, 1, 2, 4))):
        position = rng.randrange(len(changed) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del changed[position : position + rng.choice((1, 1, 2, 5))]
        elif kind == 1:
            changed[position:position] = changed[position : position + rng.choice((1, 2, 5, 20))]
        elif kind == 2 and changed:
            other = rng.randrange(len(changed))
            position = min(position, len(changed) - 1)
            changed[position], changed[other] = changed[other], changed[position]
        elif kind == 3 and changed:
            position = min(position, len(changed) - 1)
            changed[position] = mutate(changed[position], others, [], rng)
        else:
            start = rng.randrange(len(others))
            changed[position : position + rng.choice((0, 1, 1))] = others[start : start + rng.choice((1, 1, 1, 3))]
    return b"".join(changed)


def case(reader: Reader, seeds: list[bytes], number: int) -> bytes:
    """The content of a reader's case."""
    rng = random.Random(f"{reader.name} {number}")
    seed = rng.choice(seeds)
    if reader.split is None or rng.random() < 0.4:
        return mutate(seed, seeds, reader.words, rng)
    return mutate_pieces(reader.split(seed), reader.split(rng.choice(seeds)) or [b""], rng)


def run(reader: Reader, first: int, count: int, found: Path) -> Counter:
    """Run `count` cases from `first` on; what goes wrong is kept in the folder `found`. Returns the outcomes."""
    for name in reader.modules:
        import_module(name)
    outcomes: Counter = Counter()
    seeds = reader.seeds()
    while count > 0:
        batch = min(count, reader.batch or BATCH)
        done = _batch(reader, seeds, first, batch, outcomes, found)
        first, count = first + done, count - done
    return outcomes


def _batch(reader: Reader, seeds: list[bytes], first: int, count: int, outcomes: Counter, found: Path) -> int:
    """Run cases in one child: how many are done. If one ends the child, that is the last."""
    shared = mmap.mmap(-1, 8 * 64)
    pid = os.fork()
    if not pid:
        try:
            _child(reader, seeds, first, count, shared, found)
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    done, refused, tracebacks = struct.unpack_from("<3Q", shared)
    outcomes["value"] += done - refused - tracebacks
    outcomes["one line"] += refused
    outcomes["traceback"] += tracebacks
    if status or done < count:
        outcomes["too long" if -status in (signal.SIGALRM, signal.SIGPROF) else f"ended by {status}"] += 1
        _keep(found, reader, case(reader, seeds, first + done), f"ended by {status}")
        done += 1
    return done


def _child(reader: Reader, seeds: list[bytes], first: int, count: int, shared: mmap.mmap, found: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    refused = tracebacks = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        contents: Iterable[bytes] = (case(reader, seeds, first + k) for k in range(count))
        if reader.prepare is not None:
            contents = list(contents)
            reader.prepare(Path(folder), contents)
        for k, content in enumerate(contents):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(WAITS)
            try:
                reader.read(Path(folder), content, k)
            except CellfeatError as error:
                refused += 1
                if "\n" in str(error):
                    tracebacks, refused = tracebacks + 1, refused - 1
                    _keep(found, reader, content, f"more than one line: {error}")
            except BaseException:
                tracebacks += 1
                _keep(found, reader, content, traceback.format_exc())
            struct.pack_into("<3Q", shared, 0, k + 1, refused, tracebacks)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _keep(found: Path, reader: Reader, content: bytes, reason: str) -> None:
    name = f"{reader.name}-{zlib.crc32(content):08x}"
    found.mkdir(parents=True, exist_ok=True)
    (found / name).write_bytes(content)
    (found / f"{name}.txt").write_text(reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], help="default: all")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--cases", type=int, default=2000, help="of each reader, with those of earlier runs; slow readers get a share"
    )
    parser.add_argument("--write", type=Path, help="put the counts into this page (docs/reliability.md)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    options = parser.parse_args()
    path = options.output / "counts.json"
    counts = json.loads(path.read_text()) if path.is_file() else {}
    end = time.monotonic() + options.seconds
    chosen = options.readers or sorted(READERS, key=lambda one: bool(READERS[one].modules))  # PyTorch is loaded last
    for place, name in enumerate(chosen):  # each gets an equal share of the time that is left
        until = time.monotonic() + (end - time.monotonic()) / (len(chosen) - place)
        counts.setdefault(name, {})
        wanted = int(options.cases * READERS[name].share)
        while (done := sum(counts[name].values())) < wanted and time.monotonic() < until:
            size = min(wanted - done, 10 * (READERS[name].batch or BATCH))
            for outcome, number in run(READERS[name], done, size, options.output / "found").items():
                counts[name][outcome] = counts[name].get(outcome, 0) + number
            write_json(path, counts)
        print(f"{name}: " + ", ".join(f"{outcome} {number}" for outcome, number in counts[name].items()), flush=True)
    if options.write:
        put(options.write, "fuzzing", table(counts))


def table(counts: dict[str, dict[str, int]]) -> str:
    """A Markdown table: outcomes by reader."""
    lines = ["| reader | cases | value | one line | traceback, signal or too long |", "|---|---|---|---|---|"]
    for name, found in counts.items():
        if not found:
            continue
        cases, value, line = sum(found.values()), found.get("value", 0), found.get("one line", 0)
        lines.append(f"| {name} | {cases} | {value} | {line} | {cases - value - line} |")
    total = sum(sum(found.values()) for found in counts.values())
    good = sum(found.get("value", 0) + found.get("one line", 0) for found in counts.values())
    return "\n".join([*lines, f"| all | {total} | | | {total - good} |"])


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this needs fork")
    with contextlib.suppress(KeyboardInterrupt):
        main()
