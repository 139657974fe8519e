"""Small stores whose classes differ in the nucleus and whose domains differ in the stain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

CLASSES = ("basophil", "blast", "eosinophil")
RADIUS = {"basophil": 0.15, "blast": 0.3, "eosinophil": 0.22, "": 0.2}
NUCLEUS = {"basophil": (60, 30, 110), "blast": (150, 60, 160), "eosinophil": (200, 110, 60), "": (100, 80, 120)}
STAIN = {"site-a": (235, 220, 225), "site-b": (215, 225, 205)}


def crop_of(label: str, domain: str, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RGB crop (size, size, 3) uint8 and mask (size, size) uint8 of a round nucleus on a plain background."""
    y, x = np.mgrid[:size, :size] / size - rng.uniform(0.45, 0.55, (2, 1, 1))
    mask = np.hypot(x, y) < RADIUS[label]
    stain = STAIN.get(domain, STAIN["site-a"])
    picture = np.where(mask[..., None], NUCLEUS[label], stain) + rng.normal(0, 6, (size, size, 3))
    return picture.clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


def make_store(
    path: Path,
    cells: int = 24,
    size: int = 32,
    domains: tuple[str, ...] = ("site-a", "site-b"),
    classes: tuple[str, ...] = CLASSES,
    feature_shape: tuple[int, int, int] = (4, 3, 3),
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
    patients: int = 0,
) -> Store:
    """Cells dealt in turn to domains, classes and patients (0: unknown); features are noise, masks are the nuclei."""
    rng = np.random.default_rng(seed)
    with StoreWriter(path, feature_shape, size, provenance or {"made_by": f"test {seed}"}, shard_cells=10) as writer:
        for k in range(cells):
            domain, label = domains[k % len(domains)], classes[k // len(domains) % len(classes)]
            crop, mask = crop_of(label, domain, size, rng)
            box = np.array([0, 0, size, size], np.float32)
            cell = CellRow(rng.normal(size=feature_shape), crop, mask, box, 0.9, label)
            group = {"group": f"patient {k % patients}"} if patients else {}
            writer.add(ImageResult(f"{domain}/{k:03d}.png", domain, label, size, size, "", [cell], group))
    return Store(path)
