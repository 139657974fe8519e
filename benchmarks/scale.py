"""How the store's commands grow with its rows: seconds at several sizes, and the exponent of growth.

    python benchmarks/scale.py                                # 10,000 and 100,000 cells
    python benchmarks/scale.py --cells 10000 100000 1000000
    python benchmarks/scale.py --images 100000                # images dumped in a row: memory and open files

Cells are small (features of 4 x 2 x 2, crops and masks of 8 x 8 px), so that what is measured is the cost of a row and
not of its bytes. Every step runs in a process of its own on files that the page cache holds; its processor time and its
peak memory (VmHWM: Linux) are reported. The exponent is that of time between the smallest and the largest size: 1 is
linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE, SIDE, PER_IMAGE = (4, 2, 2), 8, 2


def write(folder: Path, cells: int, tag: str = "store") -> None:
    from cellfeat.store import StoreWriter

    with StoreWriter(folder / tag, SHAPE, SIDE, {"dump": {"crop_margin": 0.1}}) as writer:
        for k in range(cells // PER_IMAGE):
            writer.add(small_image(k, tag))


def small_image(k: int, tag: str = "store"):
    from cellfeat.store import CellRow, ImageResult

    rng = np.random.default_rng(k)
    cells = [
        CellRow(
            rng.normal(size=SHAPE).astype(np.float32),
            rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
            rng.integers(0, 2, (SIDE, SIDE), np.uint8),
            np.float32([5, 5, 30, 30]),
            0.9 - i / 10,
            "abc"[k % 3],
        )
        for i in range(PER_IMAGE)
    ]
    return ImageResult(f"{tag}/{k:08d}.png", "north", "", 40, 40, cells=cells, metadata={"group": f"patient {k % 99}"})


def opened(folder: Path):
    from cellfeat.store import Store

    return Store(folder / "store")


def table(folder: Path, cells: int) -> None:
    assert len(opened(folder).table()) == cells


def random_rows(folder: Path, cells: int) -> None:
    store = opened(folder)
    for row in np.random.default_rng(0).integers(0, cells, 1000):
        store.read("features", [row])


def verify(folder: Path, cells: int) -> None:
    assert opened(folder).verify() == []


def subset(folder: Path, cells: int) -> None:
    from cellfeat.store.copying import subset as run

    run(opened(folder), folder / "part", label="a")


def merge(folder: Path, cells: int) -> None:
    from cellfeat.store.copying import merge as run

    run([opened(folder)], folder / "merged")


def diff(folder: Path, cells: int) -> None:
    from cellfeat.store import Store
    from cellfeat.store.diff import diff as run

    assert not run(opened(folder), Store(folder / "merged"))


def inspect(folder: Path, cells: int) -> None:
    from cellfeat.store.inspect import describe

    describe(opened(folder))


def export_csv(folder: Path, cells: int) -> None:
    from cellfeat.store.export import export

    export(opened(folder), folder / "table.csv")


def export_coco(folder: Path, cells: int) -> None:
    from cellfeat.store.export import export

    export(opened(folder), folder / "cells.json")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "write": write,
    "table": table,
    "1,000 random rows": random_rows,
    "verify": verify,
    "subset": subset,
    "merge": merge,
    "diff": diff,
    "inspect": inspect,
    "export csv": export_csv,
    "export coco": export_coco,
}


def run_step(name: str, folder: Path, cells: int) -> None:
    """Run one step and print what it took as JSON; the caller reads it."""
    import cellfeat.store.copying
    import cellfeat.store.export  # noqa: F401 - imports are not what is measured

    start, cpu = time.perf_counter(), time.process_time()
    STEPS[name](folder, cells)
    print(
        json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": status("VmHWM")})
    )


def status(key: str) -> float:
    """A figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def images_in_a_row(folder: Path, count: int) -> None:
    """Memory and open files while many images are written one after the other."""
    from cellfeat.store import StoreWriter

    print(f"{'images':>9}{'memory MiB':>12}{'open files':>12}{'seconds':>9}")
    start = time.perf_counter()
    with StoreWriter(folder / "row", SHAPE, SIDE, {}) as writer:
        for k in range(count):
            writer.add(small_image(k))
            if (k + 1) % (count // 5) == 0:
                files = len(os.listdir("/proc/self/fd"))
                print(f"{k + 1:9}{status('VmRSS'):12.0f}{files:12}{time.perf_counter() - start:9.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--images", type=int, help="instead: write so many images and watch memory and open files")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale-benchmark"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.folder, options.cells[0])
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    if options.images:
        images_in_a_row(options.folder, options.images)
        return
    taken: dict[str, list[float]] = {name: [] for name in STEPS}
    print(f"{'step':20}{'cells':>9}{'seconds':>9}{'cpu s':>8}{'us/cell':>9}{'peak MiB':>10}")
    for cells in sorted(options.cells):
        shutil.rmtree(options.folder)
        for name in STEPS:
            command = [sys.executable, __file__, "--step", name, "--folder", str(options.folder), "--cells", str(cells)]
            output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            done = json.loads(output.stdout)
            taken[name].append(done["cpu"])
            print(
                f"{name:20}{cells:9}{done['seconds']:9.2f}{done['cpu']:8.2f}{done['cpu'] / cells * 1e6:9.1f}"
                f"{done['peak']:10.0f}",
                flush=True,
            )
    if len(options.cells) > 1:
        ratio = math.log(max(options.cells) / min(options.cells))
        for name, times in taken.items():
            print(f"{name:20} exponent {math.log(times[-1] / times[0]) / ratio:.2f}")
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
