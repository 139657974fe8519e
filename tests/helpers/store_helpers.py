"""Small random images for the store's tests."""

from __future__ import annotations

import h5py
import numpy as np

from cellfeat.core.files import sha256_file
from cellfeat.store import CellRow, ImageResult, StoreWriter
from cellfeat.store.manifest import read_manifest, write_manifest

SHAPE = (4, 3, 3)
SIDE = 16
SHARD = "shards/part-00000.h5"
PROVENANCE = {"weights": "a" * 64, "datasets": ["north", "south"], "config": {"MODEL": {"MASK_ON": True}}}


def cell(seed: int, shape=SHAPE, **changes) -> CellRow:
    rng = np.random.default_rng(seed)
    values = {
        "feature": rng.normal(size=shape).astype(np.float32),
        "crop": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        "mask": rng.integers(0, 2, (SIDE, SIDE), dtype=np.uint8),
        "box": np.array([1, 2, 30 + seed % 7, 40], np.float32),
        "score": float(rng.uniform(0.5, 1)),
        "label": ["", "monocyte", "blast"][seed % 3],
    }
    return CellRow(**{**values, **changes})


def image(number: int, cells: int | list[CellRow] = 1, shape=SHAPE, **changes) -> ImageResult:
    domain = ["north", "south"][number % 2]
    rows = [cell(100 * number + k, shape) for k in range(cells)] if isinstance(cells, int) else cells
    values = {"image_id": f"{domain}/{number:03d}.jpg", "domain": domain, "label": "", "width": 90, "height": 60}
    return ImageResult(**{**values, "cells": rows, **changes})


def smear(count: int = 14, shape=SHAPE) -> list[ImageResult]:
    """Images with 0, 1, 2 and 3 cells, every seventh unreadable."""
    images = [image(number, cells=number % 4, shape=shape) for number in range(count)]
    for result in images[5::7]:
        result.cells, result.width, result.height, result.reason = [], 0, 0, "truncated file"
    return images


def write(path, images, provenance=PROVENANCE, shape=SHAPE, **options):
    """A store of `images` at `path`; images it already has are left out. Returns `path`."""
    with StoreWriter(path, shape, SIDE, provenance, **{"shard_cells": 5, "shard_images": 6, **options}) as writer:
        for result in images:
            if result.image_id not in writer.done:
                writer.add(result)
    return path


def files(path) -> dict[str, bytes]:
    """Name and bytes of everything in a store."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def write_frozen(path):
    """The content of the frozen stores in data/, as this version writes it. Returns `path`."""
    ramp = np.arange(8, dtype=np.float32).reshape(2, 2, 2)

    def frozen(k, score, label="", predicted=""):
        crop = np.full((4, 4, 3), (50 + k, 60 + k, 69 + k), np.uint8)
        box, further = np.float32([k, 2, 29 + k, 40]), {"detected_class": predicted}
        return CellRow(ramp + k, crop, np.eye(4, dtype=np.uint8), box, score, label, further)

    images = [
        ImageResult(
            "north/000.jpg",
            "north",
            "monocyte",
            90,
            60,
            cells=[frozen(0, 0.9, "monocyte", "monocyte"), frozen(1, 0.8, predicted="blast")],
            metadata={"group": "patient 1", "stain": "Wright"},
        ),
        ImageResult("north/001.jpg", "north", "", 90, 60, tile_of="north/000.jpg", tile_x=60, tile_y=30),
        ImageResult("south/002.jpg", "south", "blast", 90, 60, cells=[frozen(2, 0.7, "blast")]),
        ImageResult("south/003.jpg", "south", "", 0, 0, reason="truncated file"),
    ]
    provenance = {"weights": "none", "purpose": "frozen store of its format version"}
    with StoreWriter(path, (2, 2, 2), 4, provenance, shard_cells=2) as writer:
        for result in images:
            writer.add(result)
    return path


def change(path, edit, sign=True):
    """Edit the first shard; `sign` also puts the new digest into the manifest."""
    with h5py.File(path / SHARD, "r+") as handle:
        edit(handle)
    if sign:
        manifest = read_manifest(path)
        manifest["shards"][0]["sha256"] = sha256_file(path / SHARD)
        write_manifest(path, manifest)


def read_some(store, rows):
    """Features, and the process that read them; here and not in a test, so that a spawned process can import it."""
    return store.read("features", rows), store.shards._pid
