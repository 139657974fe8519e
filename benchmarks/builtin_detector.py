"""How well the built-in detector does on sites that it never learned from, with default settings.

    CELLFEAT_DATASETS=... python benchmarks/builtin_detector.py [--weights FILE] [--limit 200] [--engine torchvision]

Prints, as a Markdown table: AP on datasets with boxes or masks (--test), the share of single-cell pictures in which a
cell is found (--single), the share of cell-free windows in which one is found all the same (--boxes), and a field of
150 pasted cells (--paste) through `dump`.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from cellfeat.core.files import atomic_path
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.data.paths import open_paths
from cellfeat.detection import Detector, build_detector
from cellfeat.detection.checkpoint_config import config_of_checkpoint
from cellfeat.detection.second_look import find_cells
from cellfeat.detection.train_net import evaluate
from cellfeat.store.fields import whole_table
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_config import DumpConfig

THRESHOLD = DumpConfig().score_threshold
SCORES = (0.3, 0.5, 0.7, 0.9)
PASTED = 150
FIELD = (3000, 4500)  # px: the largest cells have 260
WINDOW = 0.3  # of a picture's short edge: a cell-free window


def scores(cfg, engine: str, names: list[str]) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = tuple(names)
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        found = evaluate(cfg, engine)
    rows = []
    for name, kinds in found.items():
        for kind, values in kinds.items():
            shown = {metric: values.get(metric) for metric in ("AP", "AP50", "AP75")}
            if shown["AP"] is not None:
                rows.append((f"{name}, {kind}", ", ".join(f"{metric} {v:.3f}" for metric, v in shown.items() if v)))
    return rows


def found_share(detector: Detector, name: str, limit: int) -> tuple[str, str]:
    """Of the pictures of a single-cell set, evenly chosen."""
    records = open_dataset(name).records()
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, min(limit, len(records))).astype(int))]
    hits = 0
    for record in tqdm(chosen, desc=name):
        (cells,) = find_cells(detector, [read_rgb(record.path)], [None], THRESHOLD)
        hits += bool((cells.scores >= THRESHOLD).any())
    return f"{name}: pictures with a cell", f"{hits} of {len(chosen)} ({hits / len(chosen):.1%})"


def false_share(detector: Detector, name: str, limit: int) -> tuple[str, str]:
    """Of windows that touch no reference cell, mirrored to the picture's size, the share with a cell."""
    coco = open_dataset(name).coco()
    surest: list[float] = []
    for image in tqdm(coco["images"][:limit], desc=f"{name}, cell-free"):
        boxes = np.array([a["bbox"] for a in coco["annotations"] if a["image_id"] == image["id"]]).reshape(-1, 4)
        picture = read_rgb(image["file_name"])
        side = int(WINDOW * min(picture.shape[:2]))
        for y in (0, picture.shape[0] - side):
            for x in (0, picture.shape[1] - side):
                apart = (
                    (boxes[:, 0] >= x + side)
                    | (boxes[:, 0] + boxes[:, 2] <= x)
                    | (boxes[:, 1] >= y + side)
                    | (boxes[:, 1] + boxes[:, 3] <= y)
                )
                if apart.all():
                    window = picture[y : y + side, x : x + side]
                    rest = [(0, length - side) for length in picture.shape[:2]]  # mirrored: at the picture's scale
                    picture_of_window = np.pad(window, [*rest, (0, 0)], "symmetric")
                    (cells,) = find_cells(detector, [picture_of_window], [None], THRESHOLD)
                    surest.append(float(cells.scores.max(initial=0.0)))
    shares = ", ".join(f"from {score:g} {np.mean(np.array(surest) >= score):.1%}" for score in SCORES)
    return f"{name}: of {len(surest)} cell-free windows those with a cell, by score", shares


def pasted_field(cfg, name: str, engine: str) -> tuple[str, str]:  # type: ignore[no-untyped-def]
    """Cells of a dataset with masks on one large field, through `dump`."""
    field, centres = _paste(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field" / "field.png"
        with atomic_path(path) as partial:
            partial.write_bytes(cv2.imencode(".png", field[..., ::-1])[1].tobytes())
        start = time.perf_counter()
        store = dump(cfg, open_paths([str(path.parent)]), Path(folder) / "store", DumpConfig(select="all"), engine)
        seconds = time.perf_counter() - start
        table = whole_table(store.table(), store.images())
        boxes = np.asarray(table[["x0", "y0", "x1", "y1"]])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = np.linalg.norm(centres[:, None] - middle[None], axis=2) < 40
    counts = near.sum(1)
    return (
        f"{name}: field of {PASTED} pasted cells, {field.shape[1]} x {field.shape[0]} px",
        f"{(counts > 0).sum()} found, {(counts > 1).sum()} double, {(~near.any(0)).sum()} false, {seconds:.0f} s",
    )


def _paste(name: str) -> tuple[np.ndarray, np.ndarray]:
    coco = open_dataset(name).coco()
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    rng = np.random.default_rng(0)
    whole = [a for a in coco["annotations"] if min(a["bbox"][:2]) > 4 and a["bbox"][2] * a["bbox"][3] < 1.5 * a["area"]]
    ground = np.median(
        np.stack([np.percentile(read_rgb(f), 90, axis=(0, 1)) for f in list(files.values())[:10]]), axis=0
    )
    field = np.clip(rng.normal(ground, 2, (*FIELD, 3)), 0, 255).astype(np.uint8)
    columns = 15
    pitch = np.array([FIELD[1] / columns, FIELD[0] / (PASTED / columns)])
    centres = []
    for k in range(PASTED):
        one = whole[int(rng.integers(len(whole)))]
        picture, mask = read_rgb(files[one["image_id"]]), rle.decode(one["segmentation"]).astype(np.float32)
        x, y, w, h = (round(v) for v in one["bbox"])
        part = (slice(max(y - 4, 0), y + h + 4), slice(max(x - 4, 0), x + w + 4))
        picture, alpha = picture[part], cv2.GaussianBlur(mask[part], (0, 0), 1)[..., None]
        height, width = alpha.shape[:2]
        middle = (np.array([k % columns, k // columns]) + 0.5) * pitch + rng.uniform(-8, 8, 2)
        left, top = (int(v) for v in middle - np.array([width, height]) / 2)
        place = field[top : top + height, left : left + width]
        place[:] = (alpha * picture + (1 - alpha) * place).astype(np.uint8)
        centres.append([left + width / 2, top + height / 2])
    return field, np.array(centres)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="")
    parser.add_argument("--config-file")
    parser.add_argument("--engine", default="torchvision")
    parser.add_argument("--limit", type=int, default=200, help="pictures of each single-cell set")
    parser.add_argument("--test", nargs="*", default=["raabin-boxes", "wbc-seg-tecom", "wbc-seg-cellavision"])
    parser.add_argument("--single", nargs="*", default=["apl-hopkins", "marrow-munich"])
    parser.add_argument("--boxes", nargs="*", default=["raabin-boxes"])
    parser.add_argument("--paste", nargs="*", default=["wbc-seg-cellavision"])
    given = parser.parse_args()
    cfg = config_of_checkpoint(given.config_file, ["MODEL.WEIGHTS", given.weights] if given.weights else [])
    detector = build_detector(cfg, given.engine)
    rows = scores(cfg, given.engine, given.test) if given.test else []
    rows += [found_share(detector, name, given.limit) for name in given.single]
    rows += [false_share(detector, name, given.limit) for name in given.boxes]
    rows += [pasted_field(cfg, name, given.engine) for name in given.paste]
    print(f"\n{os.path.basename(given.weights) or 'built in'}\n\n| what | result |\n| --- | --- |")
    for row in rows:
        print(f"| {row[0]} | {row[1]} |")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main()
