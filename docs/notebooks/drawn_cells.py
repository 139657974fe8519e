"""A small store of drawn cells, for the notebooks: the masks are exact, so no detector has to be trained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cellfeat.data.crops import crop_cell
from cellfeat.data.synthetic import SITES, draw_cell_image
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

CLASSES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil_segmented", "erythroblast")


def write_store(path: str | Path, cells: int = 12, seed: int = 0) -> Store:
    """Draw cells of six classes at three sites and write them as a store.

    Args:
        path: Folder of the store; a store that is there already is left as it is.
        cells: Cells of each class at each site.
        seed: Of all that is drawn.

    Returns:
        The store. Its features are the crop at 7 x 7 px, (3, 7, 7): they take the place of a detector's.
    """
    with StoreWriter(path, (3, 7, 7), 64, {"drawn": {"cells": cells, "seed": seed}}) as writer:
        for s, site in enumerate(SITES):
            for k in range(cells * len(CLASSES)):
                label, name = CLASSES[k % len(CLASSES)], f"{site.name}/{k:03d}.png"
                if name in writer.done:
                    continue
                image, masks = draw_cell_image(site, label, np.random.default_rng([seed, s, k]))
                y, x = np.nonzero(masks[0])
                box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float32)
                crop, mask = crop_cell(image, masks[0], box, 64, 0.1)
                feature = cv2.resize(crop, (7, 7), interpolation=cv2.INTER_AREA).transpose(2, 0, 1) / 255.0
                row = CellRow(feature, crop, mask, box, 1.0, label)
                writer.add(ImageResult(name, site.name, label, image.shape[1], image.shape[0], "", [row]))
    return Store(path)
