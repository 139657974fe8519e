"""How the store's commands grow with its rows: seconds at several sizes, and the exponent of growth.

    python benchmarks/scale.py                                # 10,000 and 100,000 cells
    python benchmarks/scale.py --cells 10000 100000 1000000 --only table "1,000 random rows" inspect "export csv"
    python benchmarks/scale.py --images 100000                # images dumped in a row: memory and open files
    python benchmarks/scale.py --sides 200 4000 8000 9999     # pictures so large: peak memory of a dump

Cells are small (features of 4 x 2 x 2, crops and masks of 8 x 8 px), so that what is measured is the cost of a row and
not of its bytes. Every step runs in a process of its own on files that the page cache holds; its processor time and its
peak memory (VmHWM: Linux) are reported. The exponent is the slope of a line through the logarithms of the processor
times: 1 is linear. Stores of more than 100,000 cells are made of packed blocks, which is not measured as `write`; they
are written in the usual way where `--only` names `write`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
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


def grow(folder: Path, cells: int) -> None:
    """A large store, of the same thousand cells under ever new names."""
    from cellfeat.store import Store, StoreWriter
    from cellfeat.store.copying import _blocks
    from cellfeat.store.rows import Block

    write(folder, 1000, "seed")
    shards = Store(folder / "seed").shards
    [*parts] = _blocks(shards, 0, np.arange(1000), set(), set())
    with StoreWriter(folder / "store", SHAPE, SIDE, {"dump": {"crop_margin": 0.1}}) as writer:
        for k in range(cells // 1000):
            for part in parts:
                images = part.images | {"images/image_id": f"{k:05d}-" + part.images["images/image_id"]}
                texts = {name: f"{k:05d}-" + part.cells[name] for name in ("image_id", "cell_id")}
                writer.add_block(Block(images, part.cells | texts, part.chunks))


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


LARGE = 100_000  # cells: larger stores are grown
STEPS: dict[str, Callable[[Path, int], None]] = {
    "grow": grow,
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


# The smallest Mask R-CNN with FPN, one cell a picture.
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_narrow_resnet_fpn_backbone",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 4,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "INPUT.MIN_SIZE_TEST": 64,  # of 32 the coarsest map is one value, which GroupNorm refuses
    "TEST.DETECTIONS_PER_IMAGE": 1,
}
CONFIG = "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


def detector(folder: Path) -> list[str]:
    """Write the weights of an untrained detector: the arguments by which a dump uses it."""
    import torch

    from cellfeat.core.tensors import save_checkpoint
    from cellfeat.detection.config import config_dir, load_config
    from cellfeat.detection.torchvision_engine.model import MaskRCNN
    from cellfeat.detection.torchvision_engine.names import to_detectron2

    torch.manual_seed(0)
    overrides = [str(part) for pair in TINY.items() for part in pair]
    model = MaskRCNN(load_config(config_dir() / CONFIG, overrides))
    save_checkpoint(folder / "model.pth", {"model": to_detectron2(model.state_dict())})
    return [*overrides, "MODEL.WEIGHTS", str(folder / "model.pth")]


def images_in_a_row(folder: Path, count: int) -> None:
    """Memory and open files of one dump of many small pictures, at each fifth of them."""
    import cv2

    from cellfeat.data.paths import open_paths
    from cellfeat.detection.config import config_dir, load_config
    from cellfeat.workflows.dump import dump
    from cellfeat.workflows.dump_config import DumpConfig

    for k in range(count):
        if k % 1000 == 0:
            (pictures := folder / "pictures" / f"{k // 1000:04d}").mkdir(parents=True)
        picture = np.full((32, 32, 3), 230, np.uint8)
        cv2.circle(picture, (10 + k % 12, 10 + k // 12 % 12), 6, (k % 200, 60, 120), -1)
        cv2.imwrite(str(pictures / f"{k:06d}.png"), picture)
    cfg = load_config(config_dir() / CONFIG, detector(folder))
    settings = DumpConfig(score_threshold=0, crop_size=16, batch_size=64, fields="whole")
    watch = threading.Thread(target=_watch, args=(folder / "row", count), daemon=True)
    watch.start()
    store = dump(cfg, open_paths([str(folder / "pictures")]), folder / "row", settings, "torchvision")
    watch.join()
    assert len(store.images()) == count
    assert store.verify() == []


def _watch(store: Path, count: int) -> None:
    print(f"{'images':>9}{'memory MiB':>12}{'open files':>12}{'seconds':>9}")
    start = time.perf_counter()
    for fifth in range(1, 6):
        while _listed(store) < count * fifth // 5:
            time.sleep(0.2)
        files = len(os.listdir("/proc/self/fd"))
        print(f"{_listed(store):9}{status('VmRSS'):12.0f}{files:12}{time.perf_counter() - start:9.1f}", flush=True)


def _listed(store: Path) -> int:
    """Images in the shards that a store lists."""
    manifest = store / "manifest.json"
    return sum(shard["images"] for shard in json.loads(manifest.read_text())["shards"]) if manifest.exists() else 0


def large_pictures(folder: Path, sides: list[int]) -> None:
    """Peak memory of dumps of one square picture each, as noise (JPEG) and as one colour (PNG)."""
    import cv2

    network = detector(folder)
    command = [sys.executable, "-m", "cellfeat", "dump", "--config-file", CONFIG, "--score-threshold", "0"]
    print(f"{'px':>6}  {'content':8}{'file kB':>9}{'peak MiB':>10}  exit status")
    for side in sides:
        coarse = np.random.default_rng(side).integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
        noise = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        for name, picture in (("noise", noise), ("colour", np.full((side, side, 3), 200, np.uint8))):
            file = folder / f"{side}-{name}" / ("a.jpg" if name == "noise" else "a.png")
            file.parent.mkdir()
            cv2.imwrite(str(file), picture)
            argv = [
                *command,
                "--no-pictures",
                "--fields",
                "whole",
                "--output",
                str(folder / f"store-{side}-{name}"),
                str(file.parent),
            ]
            child = subprocess.Popen([*argv, *network], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, ended, used = os.wait4(child.pid, 0)
            size = file.stat().st_size / 1000
            print(
                f"{side:6}  {name:8}{size:9.0f}{used.ru_maxrss / 1024:10.0f}  {os.waitstatus_to_exitcode(ended)}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--images", type=int, help="instead: dump so many images and watch memory and open files")
    parser.add_argument(
        "--sides", type=int, nargs="+", help="instead: dump a picture of each side and measure the peak"
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, help="these steps alone")
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
    if options.sides:
        large_pictures(options.folder, options.sides)
        return
    taken: dict[str, dict[int, float]] = {name: {} for name in STEPS}
    print(f"{'step':20}{'cells':>9}{'seconds':>9}{'cpu s':>8}{'us/cell':>9}{'peak MiB':>10}")
    for cells in sorted(options.cells):
        shutil.rmtree(options.folder)
        first = "grow" if cells > LARGE and "write" not in (options.only or ()) else "write"
        for name in [first, *(one for one in options.only or STEPS if one not in ("grow", "write"))]:
            command = [sys.executable, __file__, "--step", name, "--folder", str(options.folder), "--cells", str(cells)]
            output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            done = json.loads(output.stdout)
            taken[name][cells] = done["cpu"]
            print(
                f"{name:20}{cells:9}{done['seconds']:9.2f}{done['cpu']:8.2f}{done['cpu'] / cells * 1e6:9.1f}"
                f"{done['peak']:10.0f}",
                flush=True,
            )
    for name, times in taken.items():
        if len(times) > 1:
            print(f"{name:20} exponent {np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0]:.2f}")
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
