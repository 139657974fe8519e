"""Plain R-CNN features: the detector's own description of a cell, averaged over its box."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from cellfeat.store import write_embeddings

if TYPE_CHECKING:
    from cellfeat.store import Store

log = logging.getLogger(__name__)

BATCH = 512  # cells at a time: 100 MB as float32 for features of 256 x 14 x 14


def embed_rcnn(store: Store, output: str | Path) -> Path:
    """Write the features of each cell, averaged over height and width, as embeddings of method "rcnn".

    Features (n, C, H, W) give z (n, C), 256-d for those of the mask or box pooler; a plain vector (n, C) is kept.
    Nothing is trained. The store is read in batches, so that memory does not grow with the store beyond z itself.

    Returns:
        `output`.
    """
    channels = store.feature_shape[0]
    z = np.empty((len(store), channels), np.float32)
    with tqdm(total=len(store), desc="rcnn", unit="cell") as progress:
        for start in range(0, len(store), BATCH):
            features = store.read("features", slice(start, start + BATCH))
            z[start : start + BATCH] = features.reshape(len(features), channels, -1).mean(axis=2, dtype=np.float32)
            progress.update(len(features))
    attributes = {
        "method": "rcnn",
        "config": json.dumps({"pooling": "mean", "feature_shape": list(store.feature_shape)}),
        "store_digest": store.digest,
    }
    write_embeddings(output, store.table()["cell_id"].to_numpy(), z, attributes)
    log.info("%s: %d cells, %d-d", output, len(store), channels)
    return Path(output)
