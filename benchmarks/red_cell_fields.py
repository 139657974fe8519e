"""Real fields of red cells without a white one, and white cells of other pictures put on them.

The fields are pictures of Chula-RBC-12 (MIT): many stains and lamps, red cells of every shape, dust, pointers and
scale bars. Pictures with something as large and as dark in red as a nucleus are left out.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cellfeat.data.images import read_rgb
from cellfeat.data.listing import find_images

SIDE = 256  # px of a training picture
RED_CELL = 36.0  # px of a usual red cell in Chula-RBC-12
VIEWS = (90, 400)  # px of a field that a training picture shows
RATIO = (1.15, 2.3)  # diameter of a white cell by a red one's
# Of a red cell's density in red light (its 80th percentile): what is so dark over such a diameter, px, is a nucleus.
NUCLEI = ((1.6, 15), (1.25, 29))
DARKER = (0.8, 2.2)  # by which the density of a field is multiplied
RED_LIGHT = 0.9  # of its green density that is added to its red one, at most: grey and blue red cells
STAIN = (0.5, 1.5)  # by which the density of a cell is multiplied at most, to fit a field
DEFOCUS = 0.1  # largest standard deviation of the blur, by the diameter of a red cell


class RedCellFields:
    """Pictures of a folder that show red cells only."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(find_images(folder).files.values())
        self.paths = [path for path in paths if not shows_nucleus(read_rgb(path))]

    def view(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """A part of a field, sometimes mirrored: RGB uint8 (256, 256, 3), and px of a usual red cell in it."""
        image = read_rgb(self.paths[rng.integers(len(self.paths))])
        side = min(round(np.exp(rng.uniform(*np.log(VIEWS)))), *image.shape[:2])
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        part = image[y : y + side, x : x + side]
        if rng.random() < 0.25:
            part = np.pad(part, ((0, side), (0, side), (0, 0)), "symmetric")
        scale = SIDE / part.shape[0]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        part = np.ascontiguousarray(np.rot90(cv2.resize(part, (SIDE, SIDE), interpolation=method), rng.integers(4)))
        return defocus(restained(part, rng), RED_CELL * scale, rng), RED_CELL * scale


def shows_nucleus(image: np.ndarray) -> bool:
    """Whether something in a field, RGB uint8 (h, w, 3), is as dark in red light and as large as a nucleus."""
    density = cv2.GaussianBlur(optical_density(image), (0, 0), 3)
    red, green = density[..., 0], density[..., 1]
    cells = green > 0.5 * np.percentile(green, 95)
    usual = np.percentile(red[cells], 80)
    for factor, diameter in NUCLEI:
        dark = (red > max(0.15, factor * usual)).astype(np.uint8)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
        if cv2.morphologyEx(dark, cv2.MORPH_OPEN, disc).any():
            return True
    return False


def optical_density(image: np.ndarray) -> np.ndarray:
    """Of RGB uint8 (h, w, 3) against its ground, the 90th percentile of each channel: float32 (h, w, 3)."""
    ground = np.percentile(image, 90, axis=(0, 1))
    return -np.log((image.astype(np.float32) + 1) / (ground.astype(np.float32) + 1))


def restained(field: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two pictures of three, RGB uint8 (h, w, 3), with darker red cells or with such that absorb red light too."""
    if rng.random() < 1 / 3:
        return field
    ground = np.percentile(field, 90, axis=(0, 1))
    density = optical_density(field) * np.exp(rng.uniform(*np.log(DARKER)))
    density[..., 0] += max(0.0, rng.uniform(-0.5, RED_LIGHT)) * density[..., 1]
    return np.clip((ground + 1) * np.exp(-density) - 1, 0, 255).astype(np.uint8)


def red_cell_density(density: np.ndarray) -> float | None:
    """What red cells absorb: the median green density of what is not ground, None where it is nearly all ground.

    Args:
        density: Of pixels, float32 (n, 3).
    """
    green = density[:, 1]
    cells = green[green > 0.5 * np.percentile(green, 95)]
    return float(np.median(cells)) if cells.size and np.median(cells) > 0.05 else None


def defocus(field: np.ndarray, red_cell: float, rng: np.random.Generator) -> np.ndarray:
    """Blur two pictures of five, RGB uint8 (h, w, 3), by up to a tenth of a red cell, whose diameter is in px."""
    if rng.random() < 0.6:
        return field
    return cv2.GaussianBlur(field, (0, 0), max(0.4, rng.uniform(0, DEFOCUS) * red_cell))


def put_cell(
    field: np.ndarray, image: np.ndarray, mask: np.ndarray, diameter: float, taken: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Put an outlined cell somewhere on a field, which it changes.

    It is stained as the field is: what it absorbs is multiplied by the field's red cells' density over that of the red
    cells around it. In every smear a nucleus is darker than red cells are.

    Args:
        field: RGB uint8 (h, w, 3).
        image: The cell's picture, RGB uint8.
        mask: The cell in it, uint8 0/1.
        diameter: Of a circle of its area on the field, px.
        taken: Where cells are already, uint8 0/1 (h, w); the new one is added.
        rng: What is drawn from.

    Returns:
        Its mask on the field, uint8 0/1 (h, w), or None where there was no room.
    """
    x, y, w, h = cv2.boundingRect(mask)
    margin = 6
    part = slice(max(y - margin, 0), y + h + margin), slice(max(x - margin, 0), x + w + margin)
    scale = diameter / np.sqrt(4 * mask.sum() / np.pi)
    size = [max(4, round(length * scale)) for length in mask[part].shape[::-1]]
    turns, method = int(rng.integers(4)), cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    whole_density = optical_density(image)
    around = cv2.dilate(mask, np.ones((margin, margin), np.uint8)) == 0
    source, target = red_cell_density(whole_density[around]), red_cell_density(optical_density(field).reshape(-1, 3))
    stain = np.clip(target / source, *STAIN) if source and target else 1.0
    density = np.rot90(cv2.resize(whole_density[part], size, interpolation=method), turns)
    cell = np.rot90(cv2.resize(mask[part].astype(np.float32), size, interpolation=cv2.INTER_LINEAR), turns)
    height, width = cell.shape
    for _ in range(10):
        top, left = (
            int(rng.integers(-n // 3, length - n + n // 3 + 1))
            for n, length in zip(cell.shape, taken.shape, strict=True)
        )
        inside = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        here = slice(max(-top, 0), taken.shape[0] - top), slice(max(-left, 0), taken.shape[1] - left)
        shown = (cell[here] > 0.5).astype(np.uint8)
        if shown.any() and not (taken[inside] & shown).any():
            break
    else:
        return None
    ground = np.percentile(field, 90, axis=(0, 1)) * rng.uniform(0.93, 1.05)
    gain = stain * rng.uniform(0.9, 1.2) * rng.uniform(0.93, 1.07, 3)
    coloured = np.clip((ground + 1) * np.exp(-density[here] * gain) - 1, 0, 255)
    alpha = cv2.GaussianBlur(np.ascontiguousarray(cell[here]), (0, 0), rng.uniform(0.6, 1.6))[..., None]
    field[inside] = (alpha * coloured + (1 - alpha) * field[inside]).astype(np.uint8)
    whole = np.zeros_like(taken)
    whole[inside] = shown
    taken |= whole
    return whole
