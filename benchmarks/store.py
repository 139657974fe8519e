"""Speed and memory of the feature store at the size of the paper's archive, against h5py alone and gzipped pickles.

    python benchmarks/store.py                          # 65,693 cells of 256 x 14 x 14 at float16, some 15 GB of disk
    python benchmarks/store.py --cells 2000 --pickle-cells 500

Every step runs in a process of its own; its peak memory (VmHWM: Linux) and its processor time are reported. Features
are random, so gzip finds nothing to save: the worst case. Crops are of 16 px, so that the bytes are the features'.
Before each reading step the files are dropped from the page cache. "h5py" is one file with the same datasets, chunks
and filters written and read in order, "h5py unfiltered" the same without chunks and filters; the pickles are float32,
as the reference implementation writes them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SHAPE, SIDE, BATCH, POOL = (256, 14, 14), 16, 500, 500


def pool() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """POOL random features, crops and masks, which the cells take in turn: chunks are compressed one by one."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((POOL, *SHAPE), np.float32).astype(np.float16)
    crops = rng.integers(0, 256, (POOL, SIDE, SIDE, 3), dtype=np.uint8)
    return features, crops, rng.integers(0, 2, (POOL, SIDE, SIDE), dtype=np.uint8)


def store_write(folder: Path, cells: int) -> None:
    from cellfeat.store import CellRow, ImageResult, StoreWriter

    features, crops, masks = pool()
    box = np.float32([10, 10, 90, 90])
    start_clock()
    with StoreWriter(folder / "store", SHAPE, SIDE, {"made_by": "benchmarks/store.py"}) as writer:
        for k in range(cells):
            row = CellRow(features[k % POOL], crops[k % POOL], masks[k % POOL], box, 0.9)
            writer.add(ImageResult(f"site/{k:06d}.png", "site", "", 100, 100, cells=[row]))


def store_verify(folder: Path, cells: int) -> None:
    from cellfeat.store import Store

    start_clock()
    problems = Store(folder / "store").verify()
    assert not problems, problems[:3]


def store_read(folder: Path, cells: int) -> None:
    from cellfeat.store import Store

    start_clock()
    store = Store(folder / "store")
    order = np.random.default_rng(0).permutation(len(store))
    for start in range(0, cells, BATCH):
        store.read("features", order[start : start + BATCH])


def h5py_write(folder: Path, cells: int, filtered: bool = True) -> None:
    import h5py

    arrays = dict(zip(("features", "crops", "masks"), pool()))
    filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True} if filtered else {}
    path = folder / ("plain.h5" if filtered else "unfiltered.h5")
    start_clock()
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            chunks = {"chunks": (1, *values.shape[1:])} if filtered else {}
            file.create_dataset(name, (cells, *values.shape[1:]), values.dtype, **chunks, **filters)
        for start in range(0, cells, BATCH):
            count = min(BATCH, cells - start)
            for name, values in arrays.items():
                file[name][start : start + count] = values[:count]
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def h5py_read(folder: Path, cells: int, name: str = "plain.h5") -> None:
    import h5py

    start_clock()
    with h5py.File(folder / name, "r") as file:
        for start in range(0, cells, BATCH):
            file["features"][start : start + BATCH]


def unfiltered_write(folder: Path, cells: int) -> None:
    h5py_write(folder, cells, filtered=False)


def unfiltered_read(folder: Path, cells: int) -> None:
    h5py_read(folder, cells, "unfiltered.h5")


def pickle_write(folder: Path, cells: int) -> None:
    features, _, _ = pool()
    wide = features.astype(np.float32)
    start_clock()
    rows = {f"{k:06d}": {"feats": wide[k % POOL].copy(), "label": "monocyte"} for k in range(cells)}
    with gzip.open(folder / "features.dat.gz", "wb") as file:
        pickle.dump(rows, file)


def pickle_read(folder: Path, cells: int) -> None:
    start_clock()
    with gzip.open(folder / "features.dat.gz", "rb") as file:
        assert len(pickle.load(file)) == cells  # written by this benchmark itself


STEPS = {
    "store, write": store_write,
    "store, verify": store_verify,
    "store, read shuffled": store_read,
    "h5py, write": h5py_write,
    "h5py, read in order": h5py_read,
    "h5py unfiltered, write": unfiltered_write,
    "h5py unfiltered, read in order": unfiltered_read,
    "gzip pickle, write": pickle_write,
    "gzip pickle, load whole": pickle_read,
}
_started = (0.0, 0.0)


def start_clock() -> None:
    """The step's clock starts here, after its data is drawn."""
    global _started
    _started = time.perf_counter(), time.process_time()


def run_step(name: str, folder: Path, cells: int) -> None:
    """Run one step and print its time and peak memory as JSON; the caller reads it."""
    STEPS[name](folder, cells)
    seconds, cpu = time.perf_counter() - _started[0], time.process_time() - _started[1]
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": peak / 1024}))


def drop_cache(folder: Path) -> None:
    """Let go of the files' pages, so that the next step reads the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=65_693)
    parser.add_argument("--pickle-cells", type=int, default=2_000, help="the pickles are loaded whole")
    parser.add_argument("--unfiltered-cells", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/store-benchmark"))
    parser.add_argument("--keep", action="store_true", help="do not remove the files afterwards")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.folder, options.cells)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    sizes = {"gzip": options.pickle_cells, "h5py unfiltered": options.unfiltered_cells}
    print(f"{'step':32}{'cells':>8}{'seconds':>10}{'cpu s':>8}{'rows/s':>9}{'MB/s':>8}{'peak MiB':>10}")
    for name in STEPS:
        cells = next((size for key, size in sizes.items() if name.startswith(key)), options.cells)
        drop_cache(options.folder)
        command = [sys.executable, __file__, "--step", name, "--folder", str(options.folder), "--cells", str(cells)]
        done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rate = cells / done["seconds"]
        megabytes = rate * np.prod(SHAPE) * (4 if name.startswith("gzip") else 2) / 1e6
        print(
            f"{name:32}{cells:8}{done['seconds']:10.1f}{done['cpu']:8.1f}{rate:9.0f}{megabytes:8.1f}{done['peak_mib']:10.0f}",
            flush=True,
        )
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
