"""Small stores and embeddings whose tables are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellfeat.store import CellRow, Embeddings, ImageResult, Store, StoreWriter

CLASSES = ("blast", "eosinophil", "lymphocyte")
SITES = {"site-a": CLASSES, "site-b": CLASSES, "bare": ("",)}


def make_store(
    path: Path, sites: dict[str, tuple[str, ...]] = SITES, per_class: int = 15, classes: dict[str, str] | None = None
) -> Store:
    rng = np.random.default_rng(0)
    provenance = {"detector": {"weights": "none"}} | ({"classes": classes} if classes else {})
    with StoreWriter(path, (4, 3, 3), 16, provenance) as writer:
        for site, classes in sites.items():
            for k in range(per_class * len(classes)):
                label = classes[k % len(classes)]
                feature = np.full((4, 3, 3), CLASSES.index(label) if label in CLASSES else 0, np.float32)
                crop = rng.integers(0, 255, (16, 16, 3), np.uint8)
                mask = np.pad(np.ones((8, 8), np.uint8), 4)
                box = np.array([0, 0, 16, 16], np.float32)
                cell = CellRow(feature + rng.normal(0, 0.1, (4, 3, 3)), crop, mask, box, 0.9, label)
                writer.add(ImageResult(f"{site}/{k}.png", site, label, 32, 32, "", [cell]))
        writer.add(ImageResult("site-a/broken.png", "site-a", "blast", 0, 0, "truncated", []))
        writer.add(ImageResult("site-a/empty.png", "site-a", "blast", 32, 32, "", []))
    return Store(path)


def separable(table, shift: dict[str, int] | None = None, seed: int = 0) -> np.ndarray:
    """z (n, 3): one axis a class; a domain's `shift` moves its classes to other axes."""
    turns = [
        (CLASSES.index(label) if label in CLASSES else 0) + (shift or {}).get(domain, 0)
        for label, domain in zip(table["label"], table["domain"])
    ]
    return np.eye(3)[np.array(turns) % 3] + np.random.default_rng(seed).normal(0, 0.05, (len(table), 3))


def embed(table, z: np.ndarray, method: str = "aecfe", digest: str = "") -> Embeddings:
    return Embeddings(table["cell_id"].to_numpy(str), z, {"method": method, "config": "{}", "store_digest": digest})
