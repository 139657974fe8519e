"""Speed and memory of the feature store at the size of the paper's archive, against other ways to keep the same arrays.

    python benchmarks/store.py                          # 65,693 cells; some 12 GB of disk at a time
    python benchmarks/store.py --cells 2000 --pickle-cells 500
    python benchmarks/store.py --small --cells 100000   # 4 x 2 x 2 and 8 px: the cost of a row, not of bytes

Cells have features of 256 x 14 x 14 at float16 (random: gzip saves 13 %), crops of 128 x 128 x 3 (noise around a
colour: 23 %, as of real crops) and masks of 128 x 128 (discs). Every step runs in a process of its own and handles all
three arrays in batches of 500; its time ends when the bytes are on the disk, its peak memory (VmHWM: Linux) and
processor time are reported. Before each step the files are dropped from the page cache. Compared with

- h5py gzip: the same arrays in one file with the chunks and filters that a shard's datasets have, as h5py applies them
  (shuffle, gzip 1, fletcher32; cellfeat leaves gzip out of the features and crops, since it saves less than a quarter);
- h5py checked: the same without shuffle and gzip: about the bytes that a shard has;
- h5py plain: the same arrays, contiguous, no filters, no checksums: what the disk and the memory can do;
- zarr 3: an array each, a chunk a cell in shards of 1,000 cells, its own compressor (zstd) or none;
- webdataset: tar files of 1,000 cells, three .npy files a cell. "Shuffled" is what the package calls so: it goes
  through the shards in any order and a buffer of 1,000 cells, where all others read each cell by its number;
- gzip pickle: one dict of float32 features, as the reference implementation writes them, fewer cells.

A package that is not installed is left out. The last columns are rows/s as a multiple of those of h5py in the same run:
of its writing, its shuffled reading, else its reading in order. At the end one table has all ways beside each other,
by processor time, which other work on the machine moves less.
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
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SHAPE, SIDE, BATCH = (256, 14, 14), 128, 500
SMALL = (4, 2, 2), 8
SHARD = 1000  # cells, as the store's shards have
NAMES = ("features", "crops", "masks")


def batch() -> dict[str, np.ndarray]:
    """BATCH cells, which are written again and again: nothing of the formats spans cells."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    cells = [
        (
            rng.standard_normal(SHAPE, np.float32).astype(np.float16),
            rng.normal((200, 160, 190), 16, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8),
            ((x - dx) ** 2 + (y - dy) ** 2 < radius * radius).astype(np.uint8),
        )
        for dx, dy, radius in rng.uniform((-9, -9, 30), (9, 9, 55), (BATCH, 3)) * SIDE / 128
    ]
    return dict(zip(NAMES, map(np.array, zip(*cells))))


def store_write(folder: Path, cells: int) -> None:
    from cellfeat.store import CellRow, ImageResult, StoreWriter

    rows = list(zip(*batch().values()))
    box = np.float32([10, 10, 90, 90])
    start_clock()
    with StoreWriter(folder / "store", SHAPE, SIDE, {"made_by": "benchmarks/store.py"}) as writer:
        for k in range(cells):
            cell = CellRow(*rows[k % BATCH], box, 0.9)
            writer.add(ImageResult(f"site/{k:06d}.png", "site", "", 100, 100, cells=[cell]))


def store_verify(folder: Path, cells: int) -> None:
    from cellfeat.store import Store

    start_clock()
    problems = Store(folder / "store").verify()
    assert not problems, problems[:3]


def store_in_order(folder: Path, cells: int) -> None:
    read_in(folder, np.arange(cells))


def store_read(folder: Path, cells: int) -> None:
    """Every cell once, in an order drawn over the whole store."""
    read_in(folder, np.random.default_rng(0).permutation(cells))


def store_read_blocks(folder: Path, cells: int) -> None:
    """Every cell once, in the order of the block shuffle."""
    from cellfeat.store.dataset import BlockShuffle

    read_in(folder, np.array(list(BlockShuffle(cells))))


def read_in(folder: Path, order: np.ndarray) -> None:
    from cellfeat.store import Store

    start_clock()
    store = Store(folder / "store")
    for start in range(0, len(order), BATCH):
        for name in NAMES:
            store.read(name, order[start : start + BATCH])


def h5py_write(path: Path, cells: int, chunked: bool, **filters) -> None:
    import h5py

    arrays = batch()
    start_clock()
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            chunks = (1, *values.shape[1:]) if chunked else None
            file.create_dataset(name, (cells, *values.shape[1:]), values.dtype, chunks=chunks, **filters)
        for start in range(0, cells, BATCH):
            for name, values in arrays.items():
                file[name][start : start + BATCH] = values[: min(BATCH, cells - start)]
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def h5py_read(path: Path, cells: int) -> None:
    import h5py

    start_clock()
    with h5py.File(path, "r") as file:
        for start in range(0, cells, BATCH):
            for name in NAMES:
                file[name][start : start + BATCH]


def h5py_shuffled(path: Path, cells: int) -> None:
    import h5py

    start_clock()
    with h5py.File(path, "r") as file:
        for rows in shuffled(cells):
            ascending = np.sort(rows)  # as h5py asks for them
            for name in NAMES:
                file[name][ascending][np.searchsorted(ascending, rows)]


def shuffled(cells: int) -> Iterator[np.ndarray]:
    """The rows of each batch, in an order drawn over all."""
    order = np.random.default_rng(0).permutation(cells)
    for start in range(0, cells, BATCH):
        yield order[start : start + BATCH]


def plain_write(folder: Path, cells: int) -> None:
    h5py_write(folder / "plain.h5", cells, chunked=False)


def plain_read(folder: Path, cells: int) -> None:
    h5py_read(folder / "plain.h5", cells)


def plain_shuffled(folder: Path, cells: int) -> None:
    h5py_shuffled(folder / "plain.h5", cells)


def checked_write(folder: Path, cells: int) -> None:
    h5py_write(folder / "checked.h5", cells, chunked=True, fletcher32=True)


def checked_read(folder: Path, cells: int) -> None:
    h5py_read(folder / "checked.h5", cells)


def checked_shuffled(folder: Path, cells: int) -> None:
    h5py_shuffled(folder / "checked.h5", cells)


def gzip_write(folder: Path, cells: int) -> None:
    filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
    h5py_write(folder / "gzip.h5", cells, chunked=True, **filters)


def gzip_read(folder: Path, cells: int) -> None:
    h5py_read(folder / "gzip.h5", cells)


def gzip_shuffled(folder: Path, cells: int) -> None:
    h5py_shuffled(folder / "gzip.h5", cells)


def zarr_write(folder: Path, cells: int, compressors: str | None = "auto") -> None:
    import zarr

    arrays = {name: np.concatenate([values] * (SHARD // BATCH)) for name, values in batch().items()}
    start_clock()
    for name, values in arrays.items():
        form, chunk = (cells, *values.shape[1:]), values.shape[1:]
        made = zarr.create_array(
            folder / f"{name}.zarr",
            shape=form,
            dtype=values.dtype,
            chunks=(1, *chunk),
            shards=(SHARD, *chunk),
            compressors=compressors,
        )
        for start in range(0, cells, SHARD):  # whole shards: a part of one would be read again
            made[start : start + SHARD] = values[: min(SHARD, cells - start)]
    sync(folder)


def zarr_plain_write(folder: Path, cells: int) -> None:
    zarr_write(folder, cells, None)


def zarr_read(folder: Path, cells: int) -> None:
    import zarr

    start_clock()
    arrays = [zarr.open_array(folder / f"{name}.zarr", mode="r") for name in NAMES]
    for start in range(0, cells, BATCH):
        for array in arrays:
            array[start : start + BATCH]


def zarr_shuffled(folder: Path, cells: int) -> None:
    import zarr

    start_clock()
    arrays = [zarr.open_array(folder / f"{name}.zarr", mode="r") for name in NAMES]
    for rows in shuffled(cells):
        for array in arrays:
            array.oindex[rows]


def tar_write(folder: Path, cells: int) -> None:
    import webdataset

    rows = list(zip(*batch().values()))
    start_clock()
    with webdataset.ShardWriter(f"{folder}/cells-%05d.tar", maxcount=SHARD, verbose=0) as writer:
        for k in range(cells):
            writer.write(
                {"__key__": f"{k:06d}"} | {f"{name}.npy": values for name, values in zip(NAMES, rows[k % BATCH])}
            )
    sync(folder)


def tar_read(folder: Path, cells: int, buffer: int = 0) -> None:
    import webdataset

    start_clock()
    names = sorted(map(str, folder.glob("cells-*.tar")))
    read = webdataset.WebDataset(names, shardshuffle=len(names) if buffer else False, seed=0, empty_check=False)
    read = (read.shuffle(buffer) if buffer else read).decode()
    assert sum(sample["masks.npy"].shape == (SIDE, SIDE) for sample in read) == cells


def tar_shuffled(folder: Path, cells: int) -> None:
    tar_read(folder, cells, SHARD)


def sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())


def pickle_write(folder: Path, cells: int) -> None:
    wide = batch()["features"].astype(np.float32)
    start_clock()
    rows = {f"{k:06d}": {"feats": wide[k % BATCH].copy(), "label": "monocyte"} for k in range(cells)}
    with gzip.open(folder / "features.dat.gz", "wb") as file:
        pickle.dump(rows, file)


def pickle_read(folder: Path, cells: int) -> None:
    start_clock()
    with gzip.open(folder / "features.dat.gz", "rb") as file:
        assert len(pickle.load(file)) == cells  # written by this benchmark itself


STEPS = {
    "h5py plain, write": plain_write,
    "h5py plain, read in order": plain_read,
    "h5py plain, read shuffled": plain_shuffled,
    "h5py checked, write": checked_write,
    "h5py checked, read in order": checked_read,
    "h5py checked, read shuffled": checked_shuffled,
    "h5py gzip, write": gzip_write,
    "h5py gzip, read in order": gzip_read,
    "h5py gzip, read shuffled": gzip_shuffled,
    "store, write": store_write,
    "store, verify": store_verify,
    "store, read in order": store_in_order,
    "store, read shuffled": store_read,
    "store, read block-shuffled": store_read_blocks,
    "zarr 3 zstd, write": zarr_write,
    "zarr 3 zstd, read in order": zarr_read,
    "zarr 3 zstd, read shuffled": zarr_shuffled,
    "zarr 3 plain, write": zarr_plain_write,
    "zarr 3 plain, read in order": zarr_read,
    "zarr 3 plain, read shuffled": zarr_shuffled,
    "webdataset, write": tar_write,
    "webdataset, read in order": tar_read,
    "webdataset, read shuffled": tar_shuffled,
    "gzip pickle, write": pickle_write,
    "gzip pickle, load whole": pickle_read,
}
WAYS = tuple(dict.fromkeys(name.split(", ")[0] for name in STEPS))
TABLE = ("write", "read in order", "read shuffled")
_started = (0.0, 0.0)


def start_clock() -> None:
    """The step's clock starts here, after its data is drawn."""
    global _started
    _started = time.perf_counter(), time.process_time()


def run_step(name: str, folder: Path, cells: int) -> None:
    """Run one step and print its time and peak memory as JSON; the caller reads it."""
    try:
        STEPS[name](folder, cells)
    except ImportError:
        print("null")
        return
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
    parser.add_argument("--small", action="store_true", help="features of 4 x 2 x 2, crops and masks of 8 px")
    parser.add_argument("--without", nargs="+", default=[], choices=WAYS, help="leave these out")
    parser.add_argument("--pickle-cells", type=int, default=1_000, help="the pickles are loaded whole")
    parser.add_argument("--folder", type=Path, default=Path("runs/store-benchmark"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        global SHAPE, SIDE
        SHAPE, SIDE = SMALL
    cell_bytes = 2 * int(np.prod(SHAPE)) + 4 * SIDE * SIDE
    if options.step:
        run_step(options.step, options.folder, options.cells)
        return
    print(
        f"{'step':28}{'cells':>7}{'seconds':>9}{'cpu s':>7}{'rows/s':>8}{'MB/s':>6}{'peak MiB':>10}"
        f"{'of plain':>10}{'of checked':>12}{'of gzip':>9}"
    )
    seconds: dict[str, float] = {}  # a cell
    spent: dict[str, float] = {}  # of processor time
    before = ""
    for name in STEPS:
        way, what = name.split(", ")
        if way in options.without:
            continue
        if way != before:  # one way's files at a time
            shutil.rmtree(options.folder, ignore_errors=True)
            options.folder.mkdir(parents=True)
        before = way
        cells = options.pickle_cells if way == "gzip pickle" else options.cells
        drop_cache(options.folder)
        command = [sys.executable, __file__, "--step", name, "--folder", str(options.folder), "--cells", str(cells)]
        command += ["--small"] if options.small else []
        done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        if done is None:
            print(f"{name}: not installed", flush=True)
            continue
        seconds[name], spent[name] = done["seconds"] / cells, done["cpu"] / cells
        size = 4 * int(np.prod(SHAPE)) if way == "gzip pickle" else cell_bytes
        line = f"{name:28}{cells:7}{done['seconds']:9.1f}{done['cpu']:7.1f}{1 / seconds[name]:8.0f}"
        line += f"{size / seconds[name] / 1e6:6.0f}{done['peak_mib']:10.0f}"
        for other, width in (("plain", 10), ("checked", 12), ("gzip", 9)):
            same = f"h5py {other}, {what if what in ('write', 'read shuffled') else 'read in order'}"
            line += f"{seconds[same] / seconds[name]:{width}.2f}" if same in seconds else " " * width
        print(line, flush=True)
    shutil.rmtree(options.folder)
    print(
        f"\n| µs of processor time a cell (that of the store = 1) | {' | '.join(TABLE)} |\n|---|{'---:|' * len(TABLE)}"
    )
    for way in WAYS:
        if f"{way}, write" in spent:
            print(f"| {way} | {' | '.join(_field(spent, way, what) for what in TABLE)} |")


def _field(spent: dict[str, float], way: str, what: str) -> str:
    mine, stores = spent.get(f"{way}, {what}"), spent.get(f"store, {what}")
    return "" if mine is None else f"{mine * 1e6:,.0f}" + (f" ({mine / stores:.2f})" if stores else "")


if __name__ == "__main__":
    main()
