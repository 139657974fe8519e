"""The cells of a store with other features: another map of the detector, laboratories of one scale, changed pictures.

Which cells there are, their boxes and masks stay as they are, so that ablate_autoencoder.py judges the same cells with
the same split; only what the detector says of them differs. A run that is interrupted goes on when started again.

    python benchmarks/other_features.py runs/real_smears/dump/store --detector runs/real_smears/detector \
        --output runs/study/p3 --level p3
    python benchmarks/other_features.py STORE --detector DETECTOR --output runs/study/one-scale --cell-px 96
    python benchmarks/other_features.py STORE --detector DETECTOR --output runs/study/views --views 2 --jitter 0.2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fvcore.common.config import CfgNode
from torchvision.transforms.v2 import functional as colour
from tqdm import tqdm

from cellfeat.core.files import digest
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.dataset import ImageRecord
from cellfeat.data.images import read_rgb
from cellfeat.detection import build_detector
from cellfeat.detection.config import load_config
from cellfeat.detection.network_input import network_inputs
from cellfeat.detection.roi_align import roi_align
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.rpn import STRIDES
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

LEVELS = dict(zip(("p2", "p3", "p4", "p5"), STRIDES))
Extract = Callable[[np.ndarray, np.ndarray, CfgNode], np.ndarray]
"""RGB image (h, w, 3) uint8, boxes (n, 4) XYXY px of it, config: features (n, C, 14, 14) float32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--detector", type=Path, required=True, help="folder with config.yaml and model_final.pth")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--level", choices=list(LEVELS), help="pool every cell from this map, not by its size")
    parser.add_argument("--cell-px", type=float, help="each domain's median cell has this side in the network's frame")
    parser.add_argument("--views", type=int, default=0, help="turned and mirrored copies of each cell, beside itself")
    parser.add_argument("--jitter", type=float, default=0, help="of brightness and saturation of a view, and hue / 4")
    options = parser.parse_args()
    store = Store(options.store)
    cfg = load_config(options.detector / "config.yaml", ["MODEL.WEIGHTS", str(options.detector / "model_final.pth")])
    model = build_detector(cfg, "torchvision").model  # type: ignore[attr-defined]
    extract = extractor(model, options.level)
    settings = {name: str(value) for name, value in vars(options).items() if name != "output"}
    provenance = {"of": store.digest, **settings}
    configs = one_scale(cfg, store, options.cell_px) if options.cell_px else {}
    records = {
        record.image_id: record for name in store.provenance["datasets"] for record in open_dataset(name).records()
    }
    groups = list(store.table().groupby("image_id", sort=False))
    with StoreWriter(options.output, store.feature_shape, store.layout.crop_size, provenance) as writer:
        for view in range(options.views + 1):
            for image_id, cells in tqdm(groups, desc=f"view {view}", unit="image"):
                name = f"{image_id}~{view}" if view else image_id
                if name not in writer.done:
                    record, change = records[image_id], View(name, options.jitter) if view else View()
                    add(writer, name, record, store, cells, change, extract, configs.get(record.domain, cfg))


class View:
    """One way to turn, mirror and colour a picture, the same for the same name; without a name none at all."""

    def __init__(self, name: str = "", jitter: float = 0) -> None:
        rng = np.random.default_rng(int(digest(name)[:8], 16))
        self.turns, self.mirrored = (rng.integers(4), rng.integers(2)) if name else (0, 0)
        self.brightness, self.saturation = 1 + jitter * rng.uniform(-1, 1, 2)
        self.hue = jitter / 4 * rng.uniform(-1, 1)
        self.coloured = jitter > 0

    def moved(self, picture: np.ndarray) -> np.ndarray:
        """A picture or mask (h, w, ...), turned and mirrored."""
        turned = np.rot90(picture, self.turns)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes (n, 4) XYXY of a picture of this size, in the moved picture."""
        x0, y0, x1, y1 = boxes.T
        for _ in range(self.turns):
            x0, y0, x1, y1 = y0, width - x1, y1, width - x0
            height, width = width, height
        if self.mirrored:
            x0, x1 = width - x1, width - x0
        return np.stack([x0, y0, x1, y1], axis=1)

    def painted(self, picture: np.ndarray) -> np.ndarray:
        """An RGB picture (h, w, 3) uint8 in other colours, place by place."""
        if not self.coloured:
            return picture
        image = torch.from_numpy(picture).permute(2, 0, 1)
        image = colour.adjust_brightness(image, self.brightness)
        image = colour.adjust_saturation(image, self.saturation)
        return colour.adjust_hue(image, self.hue).permute(1, 2, 0).contiguous().numpy()


def add(
    writer: StoreWriter,
    name: str,
    record: ImageRecord,
    store: Store,
    cells: pd.DataFrame,
    view: View,
    extract: Extract,
    cfg: CfgNode,
) -> None:
    """Write one view of an image and its cells."""
    rows, picture = cells.index.to_numpy(), read_rgb(record.path)
    boxes = view.boxes(cells[["x0", "y0", "x1", "y1"]].to_numpy(np.float32), *picture.shape[:2])
    picture = view.painted(view.moved(picture))
    columns = (
        extract(picture, boxes, cfg),
        (view.painted(view.moved(crop)) for crop in store.read("crops", rows)),
        (view.moved(mask) for mask in store.read("masks", rows)),
        boxes,
        cells["score"],
        cells["label"],
    )
    height, width = picture.shape[:2]
    found = [CellRow(*cell) for cell in zip(*columns)]
    writer.add(
        ImageResult(name, record.domain, record.label, width, height, cells=found, metadata=record.stored_metadata)
    )


def extractor(model: MaskRCNN, level: str | None) -> Extract:
    """Pools from one map of the model, or without a level as a dump does."""
    pooler = model.roi_heads.mask_pooler

    @torch.inference_mode()
    def extract(image: np.ndarray, boxes: np.ndarray, cfg: CfgNode) -> np.ndarray:
        given = network_inputs(cfg, [image], None)[0]
        maps = model.backbone(model.batch([given]).tensors)
        scale = np.array([given.shape[2] / image.shape[1], given.shape[1] / image.shape[0]] * 2, np.float32)
        placed = torch.from_numpy(boxes * scale)
        if level is None:
            return pooler([maps[name] for name in LEVELS], [placed]).numpy()
        rois = torch.cat([torch.zeros(len(placed), 1), placed], dim=1)
        return roi_align(maps[level], rois, pooler.resolution, 1 / LEVELS[level], pooler.sampling_ratio).numpy()

    return extract


def one_scale(cfg: CfgNode, store: Store, cell_px: float) -> dict[str, CfgNode]:
    """A config a domain: its median cell is `cell_px` wide (root of the box's area) in the network's frame."""
    table = store.table().merge(store.images()[["image_id", "width", "height"]], on="image_id")
    side = np.sqrt((table["x1"] - table["x0"]) * (table["y1"] - table["y0"]))
    share = (side / table[["width", "height"]].min(axis=1)).groupby(table["domain"]).median()
    configs = {}
    for domain, part in share.items():
        configs[domain] = cfg.clone()
        configs[domain].defrost()
        configs[domain].INPUT.MIN_SIZE_TEST = round(cell_px / part)
        configs[domain].INPUT.MAX_SIZE_TEST = 2 * round(cell_px / part)
        print(f"{domain}: short edge {round(cell_px / part)} px")
    return configs


if __name__ == "__main__":
    main()
