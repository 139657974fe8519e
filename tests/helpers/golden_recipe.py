"""The recipe of the golden files: deterministic weights by Detectron2's names, and a smear-like picture.

Detectron2 itself ran once on these weights and this picture; the golden .npz files hold what it computed. Nothing here
may change, or the numbers lose their meaning.
"""

import json
import zlib
from pathlib import Path

import numpy as np


def parameter(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One float32 parameter or buffer, from the seed and its name; residual branches are damped."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    if name.endswith("running_var"):
        return np.ones(shape, np.float32)
    if name.endswith(("running_mean", "num_batches_tracked")):
        return np.zeros(shape, np.float32)
    if ".norm." in name:
        return np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
    if name.endswith("bias"):
        return (0.01 * rng.standard_normal(shape)).astype(np.float32)
    gain = 2.0
    if ".res" in name and ".conv3." in name:
        gain = 0.1
    if "bbox_pred" in name or "anchor_deltas" in name:
        gain = 0.02
    if "stem" in name:
        gain = 2.0 / 900**2
    return (rng.standard_normal(shape) * np.sqrt(gain / int(np.prod(shape[1:])))).astype(np.float32)


def state_dict(shapes_json: Path, seed: int) -> dict[str, np.ndarray]:
    """All parameters that a golden's shapes.json lists, by Detectron2's names."""
    shapes = json.loads(shapes_json.read_text())
    return {name: parameter(name, tuple(shape), seed) for name, shape in shapes.items()}


def image(height: int, width: int, seed: int) -> np.ndarray:
    """RGB uint8 (height, width, 3): pale ground, red cells, purple nuclei."""
    rng = np.random.RandomState(seed)
    yy, xx = np.mgrid[:height, :width]
    canvas = np.full((height, width, 3), (232, 218, 226), np.float64)
    for _ in range(12):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.06, 0.09) * width
        canvas[(yy - cy) ** 2 + (xx - cx) ** 2 < r * r] = (214, 160, 165)
    for _ in range(3):
        cy, cx = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
        r = rng.uniform(0.10, 0.16) * width
        canvas[(yy - cy) ** 2 + (xx - cx) ** 2 < r * r] = (196, 178, 214)
        canvas[(yy - cy) ** 2 + (xx - cx - r / 5) ** 2 < (0.65 * r) ** 2] = (98, 58, 140)
    return np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255).astype(np.uint8)
