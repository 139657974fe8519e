"""What a feature store survives: kills, damage, a full disk, two writers. Figures for docs/reliability.md.

    python benchmarks/faults.py                       # 60 kills of a writer, 600 mutations, 300 forgeries, full disks
    python benchmarks/faults.py --kills 30 --mutations 200
    python benchmarks/faults.py --write docs/reliability.md

Each fault is drawn from a fixed seed. A store counts as survived when it ends equal, row for row, to one that was
written without a fault, and `verify` finds nothing. tests/faults runs the same functions with smaller numbers. Needs
fork (POSIX). Every other command is disturbed by benchmarks/command_faults.py.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import warm_children
from docs_page import put

from cellfeat.core.files import sha256_file
from cellfeat.errors import CellfeatError
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter
from cellfeat.store.manifest import read_manifest, write_manifest

SHAPE, SIDE, PROVENANCE = (4, 5, 5), 8, {"made_by": "benchmarks/faults.py"}
DAMAGES = {
    "shard flipped": "one byte of a shard changed",
    "shard cut": "a shard cut short",
    "manifest flipped": "one byte of the manifest changed",
    "manifest cut": "the manifest cut short",
}
REFUSED = 3  # exit status of a child that ended with one line


def images(count: int, pause: float = 0.0) -> Iterator[ImageResult]:
    """`count` images of 0 to 3 random cells, some unreadable; `pause` seconds before each."""
    for number in range(count):
        time.sleep(pause)
        rng = np.random.default_rng(number)
        cells = [
            CellRow(
                rng.standard_normal(SHAPE),
                rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
                rng.integers(0, 2, (SIDE, SIDE), dtype=np.uint8),
                np.array([0, 0, *rng.uniform(10, 60, 2)]),
                float(rng.uniform()),
                "monocyte" if k else "",
            )
            for k in range(number % 4)
        ]
        if number % 7 == 5:
            yield ImageResult(f"site/{number:04d}.png", "site", "", 0, 0, reason="truncated file")
        else:
            yield ImageResult(f"site/{number:04d}.png", "site", "", 90, 60, cells=cells)


def write(path: Path, count: int, pause: float = 0.0) -> Path:
    """Write `images` into a store of small shards; on a standing one, go on."""
    with StoreWriter(path, SHAPE, SIDE, PROVENANCE, shard_cells=6, shard_images=6) as writer:
        for image in images(count, pause):
            if image.image_id not in writer.done:
                writer.add(image)
    return path


def child(job: Callable[[], object]) -> int:
    """Run `job` in a forked process: its id. Exit status 0, or REFUSED for a CellfeatError."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(os.devnull, "w") as quiet:
            os.dup2(quiet.fileno(), 2)
            job()
        status = 0
    except CellfeatError as error:
        status = REFUSED if "\n" not in str(error) else 1
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """Exit status of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lost_rows(path: Path, whole: Path) -> int:
    """Rows of `whole` that `path` lacks or has otherwise; raises where `path` is unsound or has rows of its own."""
    one, other = Store(path), Store(whole)
    assert one.verify() == [], one.verify()[:3]
    pd.testing.assert_frame_equal(one.images(), other.images())
    pd.testing.assert_frame_equal(one.table(), other.table())
    different = np.zeros(len(other), bool)
    for name, shape in (("features", (1, 2, 3)), ("crops", (1, 2, 3)), ("masks", (1, 2))):
        different |= (one.read(name, slice(None)) != other.read(name, slice(None))).any(axis=shape)
    return int(different.sum())


def kills(job: Callable[[Path], object], folder: Path, count: int, seed: int = 0) -> Counter:
    """Kill `job(path)`, which fills a store, `count` times at random instants; after each, what is listed must be
    readable, and after the job at last ends well, the store must be that of an unbroken run."""
    rng = random.Random(seed)
    started = time.monotonic()
    assert ended(child(lambda: job(folder / "whole"))) == 0
    longest = time.monotonic() - started
    found: Counter = Counter()
    while found["kills"] < count:
        path = folder / f"killed-{found['stores']}"
        for _ in range(5):  # kills of one and the same store, then it may finish
            pid = child(lambda path=path: job(path))
            time.sleep(rng.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
            killed = ended(pid) == -signal.SIGKILL
            found["kills"] += killed
            if (path / "manifest.json").exists():
                store = Store(path)
                store.read("features", slice(None))
                found["killed with shards listed"] += bool(killed and len(store.manifest["shards"]))
        assert ended(child(lambda path=path: job(path))) == 0
        found["rows lost"] += lost_rows(path, folder / "whole")
        found["stores"] += 1
        shutil.rmtree(path)
    return found


def mutations(path: Path, count: int, seed: int = 0) -> Counter:
    """Change single bytes of a store's files and cut files short; verify must notice each. Returns the counts."""
    rng = random.Random(seed)
    found: Counter = Counter()
    for name, damage, whole in _mutants(path, count, rng):
        (path / name).write_bytes(damage)
        try:
            noticed = bool(Store(path).verify())
        except CellfeatError:
            noticed = True
        kind = "manifest" if name == "manifest.json" else "shard"
        fault = f"{kind} {'cut' if len(damage) < len(whole) else 'flipped'}"
        found[fault] += 1
        found[f"{fault}, noticed"] += noticed
        found["noticed"] += noticed
        (path / name).write_bytes(whole)
    return found


def forgeries(path: Path, count: int, seed: int = 0) -> Counter:
    """As `mutations` of shards, but with digest and seal put right, as an enemy would: every reader must end with an
    error of ours or with data, in bounded time and memory; never by a signal."""
    rng = random.Random(seed)
    found: Counter = Counter()
    manifest = read_manifest(path)
    for name, damage, whole in _mutants(path, count, rng):
        if name == "manifest.json":
            continue
        (path / name).write_bytes(damage)
        digests = [{**entry, "sha256": sha256_file(path / entry["file"])} for entry in manifest["shards"]]
        write_manifest(path, {**manifest, "shards": digests})
        pid = child(lambda: _read_everything(path))
        found[{0: "read", REFUSED: "refused"}.get(status := ended(pid), f"ended by {status}")] += 1
        (path / name).write_bytes(whole)
    write_manifest(path, manifest)
    return found


def _read_everything(path: Path) -> None:
    signal.alarm(60)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    store = Store(path)
    store.verify()
    store.table(), store.images()
    for name in ("features", "crops", "masks"):
        store.read(name, slice(None))


def _mutants(path: Path, count: int, rng: random.Random) -> Iterator[tuple[str, bytes, bytes]]:
    """(file, changed bytes, true bytes): every fourth time the manifest, and of each every fourth time cut short."""
    names = [entry["file"] for entry in read_manifest(path)["shards"]]
    for number in range(count):
        name = rng.choice(names) if number % 4 else "manifest.json"
        whole = (path / name).read_bytes()
        position = rng.randrange(len(whole))
        if number // 4 % 4 == 0:
            yield name, whole[:position], whole
        else:
            changed = bytearray(whole)
            changed[position] ^= rng.randrange(1, 256)
            yield name, bytes(changed), whole


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory of `size` bytes. Raises OSError where it cannot be made (it takes root on Linux)."""
    folder.mkdir(parents=True)
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True
    )
    if not made or made.returncode:
        raise OSError("no small file system can be mounted here (that takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disks(folder: Path, sizes: Iterable[int], count: int = 60) -> Counter:
    """Fill disks of `sizes` bytes: the writer must end with one line, the store be sound; with room it must finish."""
    whole = write(folder / "whole", count)
    found: Counter = Counter()
    for size in sizes:
        with small_disk(folder / f"disk-{size}", size) as disk:
            path = disk / "store"
            status = ended(child(lambda path=path: write(path, count)))
            found["disks"] += 1
            found["ended with one line"] += status == REFUSED
            if (path / "manifest.json").exists():
                assert Store(path).verify() == []
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            found["rows lost"] += lost_rows(write(path, count), whole)
    return found


def rivals(folder: Path, rounds: int, count: int = 24) -> Counter:
    """Two writers of one store at once: one must write all, the other be refused."""
    whole = write(folder / "whole", count)
    found: Counter = Counter()
    for number in range(rounds):
        path = folder / f"shared-{number}"
        pids = [child(lambda path=path: write(path, count, pause=0.01)) for _ in range(2)]
        found["rounds"] += 1
        found["one refused"] += sorted(ended(pid) for pid in pids) == [0, REFUSED]
        found["rows lost"] += lost_rows(path, whole)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--mutations", type=int, default=600)
    parser.add_argument("--forgeries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="put the table into this page (docs/reliability.md)")
    options = parser.parse_args()
    warm_children.start()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        found = {"kills": kills(lambda path: write(path, 40, 0.01), folder / "writer", options.kills, options.seed)}
        store = write(folder / "store", 40)
        found["mutations"] = mutations(store, options.mutations, options.seed)
        found["forgeries"] = forgeries(store, options.forgeries, options.seed)
        found["rivals"] = rivals(folder / "rivals", rounds=10)
        try:
            found["disks"] = full_disks(folder / "disks", range(16 << 10, 400 << 10, 48 << 10))
        except OSError as error:
            print(f"disk full: left out, {error}")
    print(table(found))
    if options.write:
        put(options.write, "faults of stores", table(found))


def table(found: dict[str, Counter]) -> str:
    """A Markdown table of what `main` found: a line a fault."""
    killed, changed, rivals, disks = (found.get(name, Counter()) for name in ("kills", "mutations", "rivals", "disks"))
    forged = found["forgeries"]
    listed = f"{killed['kills']} ({killed['killed with shards listed']} with shards listed)"
    survived = f"survived: {killed['stores']} of {killed['stores']} stores"
    rows = [("kill -9 of a writer at a random instant, then resumed", listed, survived, killed["rows lost"])]
    for fault, words in DAMAGES.items():
        rows.append((words, changed[fault], f"noticed by `verify`: {changed[f'{fault}, noticed']}", "–"))
    others = sum(forged.values()) - forged["read"] - forged["refused"]
    said = f"{forged['read']} read as data, {forged['refused']} refused by one line; {others or 'none'} ended otherwise"
    enemy = "a shard changed or cut, and digests and seal put right as an enemy would"
    rows.append((enemy, sum(forged.values()), said, "–"))
    refused = f"one refused with who holds the store: {rivals['one refused']}"
    rows.append(("two writers at once", rivals["rounds"], refused, rivals["rows lost"]))
    if disks:
        ended = f"ended with one line, store sound: {disks['ended with one line']}"
        rows.append(
            (
                "disk full (file systems of 16 to 352 KiB), then made larger and resumed",
                disks["disks"],
                ended,
                disks["rows lost"],
            )
        )
    lines = ["| fault | tried | outcome | rows lost |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this needs fork")
    main()
