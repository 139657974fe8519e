"""Detection with features, both engines, against the loop that everyone writes around Detectron2's DefaultPredictor.

    python benchmarks/engines.py --weights model_final.pth --datasets pbc-barcelona aml-munich --images 50
    python benchmarks/engines.py --config-file wbc_mask_rcnn_R_101_FPN.yaml --datasets pbc-barcelona --images 8 \
        INPUT.MIN_SIZE_TEST 416

The loop: one image at a time, mask-pooler features of the final boxes caught by a forward hook. All variants see the
same images in the same process; rounds alternate between them, so that a drifting machine drifts for all of them, and
the median counts, of wall time and of the process's CPU time, which other work on the machine moves less. Boxes are
matched to those of the loop by IoU; the feature error is ‖a − b‖ / ‖b‖ over matched cells.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import DefaultPredictor
from fvcore.common.config import CfgNode
from torchvision.ops import box_iou
from tqdm import tqdm

from cellfeat.core.tensors import save_checkpoint
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.detection import build_detector
from cellfeat.detection.config import find_config, load_config
from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
from cellfeat.detection.detectron2_engine.engine import new_model
from cellfeat.detection.structures import CellInstances

Detect = Callable[[list[np.ndarray]], list[CellInstances]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="wbc_mask_rcnn_R_18_FPN_tiny.yaml")
    parser.add_argument("--weights", help="checkpoint; without it, random weights, the same for all variants")
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs that overrule the config")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights or random_weights(arguments, Path(folder) / "model.pth")
        cfg = load_config(find_config(arguments.config_file), ["MODEL.WEIGHTS", weights, *arguments.opts])
        measure(cfg, arguments)


def measure(cfg: CfgNode, arguments: argparse.Namespace) -> None:
    variants = {"DefaultPredictor loop": predictor_loop(cfg)}
    for engine in ("detectron2", "torchvision"):
        for precision in ("fp32", "bf16"):
            variants[f"{engine}, {precision}"] = batched(cfg, engine, precision, arguments.batch)
    images = pictures(arguments.datasets, arguments.images)
    found = {name: detect(images) for name, detect in variants.items()}  # warm-up
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in tqdm(range(arguments.rounds), unit="round"):
        for name, detect in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            detect(images)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    setting = f"short edge {cfg.INPUT.MIN_SIZE_TEST} px, batch {arguments.batch}, {torch.get_num_threads()} threads"
    print(f"{arguments.config_file}, {len(images)} images, {setting}, median of {arguments.rounds} rounds\n")
    print("| variant | images/s | ratio | CPU s/image | ratio | cells | IoU ≥ 0.999 | lowest IoU | score | features |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    reference = found["DefaultPredictor loop"]
    base = np.median(seconds["DefaultPredictor loop"], axis=0)
    for name, times in seconds.items():
        wall, cpu = np.median(times, axis=0)
        wall_ratio, cpu_ratio = base / (wall, cpu)
        speed = f"{len(images) / wall:.2f} | {wall_ratio:.2f} | {cpu / len(images):.3f} | {cpu_ratio:.2f}"
        print(f"| {name} | {speed} | {agreement(found[name], reference)} |")


def random_weights(arguments: argparse.Namespace, path: Path) -> str:
    """A checkpoint of the untrained network, each residual branch damped: 33 of them at full strength leave no box."""
    cfg = load_config(find_config(arguments.config_file), ["MODEL.WEIGHTS", "", *arguments.opts])
    torch.manual_seed(0)
    state = new_model(to_detectron2_cfg(cfg)).state_dict()
    for name in state:
        if re.search(r"res\d\.\d+\.conv3\.norm\.weight$", name):
            state[name].fill_(0.1)
    save_checkpoint(path, {"model": state})
    return str(path)


def pictures(datasets: list[str], count: int) -> list[np.ndarray]:
    """The first images of each dataset, as many of each, `count` in all."""
    share = -(-count // len(datasets))
    paths = [record.path for name in datasets for record in open_dataset(name).records()[:share]]
    return [read_rgb(path) for path in paths[:count]]


def batched(cfg, engine, precision, batch) -> Detect:  # type: ignore[no-untyped-def]
    detector = build_detector(cfg, engine, precision=precision)
    return lambda images: [
        cells for i in range(0, len(images), batch) for cells in detector.detect(images[i : i + batch])
    ]


def predictor_loop(cfg) -> Detect:  # type: ignore[no-untyped-def]
    plain = to_detectron2_cfg(cfg).clone()
    plain.defrost()
    plain.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    plain.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = DefaultPredictor(plain)
    pooled: list[torch.Tensor] = []
    predictor.model.roi_heads.mask_pooler.register_forward_hook(lambda module, inputs, output: pooled.append(output))

    def one(image: np.ndarray) -> CellInstances:
        pooled.clear()
        cells = predictor(image[:, :, ::-1])["instances"].to("cpu")
        return CellInstances(
            image.shape[:2],
            cells.pred_boxes.tensor.numpy(),
            cells.scores.numpy(),
            cells.pred_masks.numpy(),
            pooled[0].cpu().numpy(),
        )

    return lambda images: [one(image) for image in images]


def agreement(ours: list[CellInstances], theirs: list[CellInstances]) -> str:
    """Cells | share of boxes matched at IoU ≥ 0.999 | lowest IoU | largest score error | feature error."""
    overlaps, scores, difference, size = [], [], 0.0, 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if not len(other):
            continue
        if not len(mine):
            overlaps += [0.0] * len(other)
            continue
        overlap, match = box_iou(torch.from_numpy(other.boxes), torch.from_numpy(mine.boxes)).max(dim=1)
        overlaps += overlap.tolist()
        for i in np.flatnonzero(overlap.numpy() > 0.9):
            scores.append(abs(float(mine.scores[match[i]] - other.scores[i])))
            difference += float(((mine.roi_features[match[i]] - other.roi_features[i]) ** 2).sum())
            size += float((other.roi_features[i] ** 2).sum())
    cells = sum(len(each) for each in ours)
    if not scores:
        return f"{cells} | none | – | – | –"
    exact = np.mean(np.array(overlaps) >= 0.999)
    return f"{cells} | {exact:.1%} | {min(overlaps):.4f} | {max(scores):.1e} | {(difference / size) ** 0.5:.1e}"


if __name__ == "__main__":
    main()
