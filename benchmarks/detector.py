"""Detector inference: fp32, fp32 in channels_last, bf16 in channels_last; the same network, images and process.

    python benchmarks/detector.py --config-file wbc_mask_rcnn_R_101_FPN.yaml --edge 416

Rounds alternate between the variants, so that a drifting machine drifts for all of them; the median of each is shown,
and the error of its ROI features against fp32 (‖a − b‖ / ‖b‖ over the cells that both found, matched by IoU).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from cellfeat.data.synthetic import SITES, draw_cell_image
from cellfeat.data.vocabulary import CLASSES
from cellfeat.detection import Detector, build_detector
from cellfeat.detection.config import find_config, load_config
from cellfeat.detection.structures import CellInstances

VARIANTS = {  # name: (precision, memory format)
    "fp32": ("fp32", torch.contiguous_format),
    "fp32, channels_last": ("fp32", torch.channels_last),
    "bf16, channels_last": ("bf16", torch.channels_last),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="wbc_mask_rcnn_R_18_FPN_tiny.yaml")
    parser.add_argument("--weights", default="", help="checkpoint; without it the weights are random")
    parser.add_argument("--edge", type=int, default=224, help="short edge that the network sees, px")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    overrides = ["MODEL.WEIGHTS", arguments.weights, "INPUT.MIN_SIZE_TEST", str(arguments.edge)]
    cfg = load_config(find_config(arguments.config_file), overrides)
    detectors = {}
    for name, (precision, layout) in VARIANTS.items():
        torch.manual_seed(0)
        detectors[name] = build_detector(cfg, "torchvision", precision=precision)
        detectors[name].model.to(memory_format=layout)
    rng = np.random.default_rng(0)
    images = [draw_cell_image(SITES[0], CLASSES[i % len(CLASSES)], rng)[0] for i in range(arguments.images)]

    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    found = {name: detect(detector, images, arguments.batch) for name, detector in detectors.items()}  # warm-up
    for _ in tqdm(range(arguments.rounds), unit="round"):
        for name, detector in detectors.items():
            start = time.perf_counter()
            detect(detector, images, arguments.batch)
            seconds[name].append(time.perf_counter() - start)

    setting = f"short edge {arguments.edge} px, batch {arguments.batch}, {torch.get_num_threads()} threads"
    print(f"{arguments.config_file}, {setting}")
    print("| variant | images/s | ratio | feature error |\n|---|---|---|---|")
    base = statistics.median(seconds["fp32"])
    for name, times in seconds.items():
        median = statistics.median(times)
        error = feature_error(found[name], found["fp32"])
        print(f"| {name} | {len(images) / median:.2f} | {base / median:.2f} | {error:.1e} |")


def detect(detector: Detector, images: list[np.ndarray], batch: int) -> list[CellInstances]:
    return [cells for i in range(0, len(images), batch) for cells in detector.detect(images[i : i + batch])]


def feature_error(ours: list[CellInstances], theirs: list[CellInstances]) -> float:
    difference, size = 0.0, 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if not len(mine) or not len(other):
            continue
        overlap, match = box_iou(torch.from_numpy(other.boxes), torch.from_numpy(mine.boxes)).max(dim=1)
        for i in np.flatnonzero(overlap.numpy() > 0.9):
            difference += float(((mine.roi_features[match[i]] - other.roi_features[i]) ** 2).sum())
            size += float((other.roi_features[i] ** 2).sum())
    return (difference / size) ** 0.5 if size else float("nan")


if __name__ == "__main__":
    main()
