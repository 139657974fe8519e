"""A cell in 97 numbers that a person can read: colours, shapes and textures of the cell, its nucleus and its cytoplasm.

The nucleus is what Otsu's threshold calls dark in the green channel within the mask (Otsu, IEEE Trans. Systems, Man,
and Cybernetics 9, 1979): the dyes of a blood smear absorb green most, and the nucleus holds most of them. Shapes and
textures are scikit-image's.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from skimage.feature import graycomatrix, graycoprops
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

Unit = Literal["um", "px"]

CELL_QUANTILES = (5, 15, 25, 35, 50, 65, 75, 85, 95)  # percent
PART_QUANTILES = (10, 25, 50, 75, 90)
DEPTHS = (0, 3, 6, 9)
"""Of the erosions after which lobes are counted, in percent of the cell's diameter: 0 to 1 µm of a cell of 11 µm."""
SPECK = 0.02
"""Of the cell's area: dark parts below it are granules, no nucleus."""
GREY_LEVELS = 16  # of the co-occurrence matrix (Haralick et al., 1973)
DISTANCES = (1, 3)  # px of the crop between the two pixels that are compared
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)  # averaged, so that a turned cell keeps its values
TEXTURES = ("contrast", "homogeneity", "correlation")
SIGMAS = (1, 2)  # px of the crop, of the Laplacian of Gaussian

_SHAPES = {
    "area": 2,
    "major_axis": 1,
    "minor_axis": 1,
    "eccentricity": 0,
    "solidity": 0,
    "circularity": 0,
}


def _dimensions() -> dict[str, int]:
    """Name to power of a length: 2 for an area, 1 for a length, 0 for a number without a unit."""
    found = {f"cell_{colour}_q{q:02d}": 0 for q in CELL_QUANTILES for colour in ("red", "green", "blue")}
    for part in ("nucleus", "cytoplasm"):
        found |= {f"{part}_{colour}_q{q:02d}": 0 for q in PART_QUANTILES for colour in ("red", "green", "blue")}
    found |= {f"contrast_{colour}": 0 for colour in ("red", "green", "blue")}
    found |= {f"cell_{shape}": power for shape, power in _SHAPES.items()} | {"cell_diameter": 1, "cell_extent": 1}
    found |= {f"nucleus_{shape}": power for shape, power in _SHAPES.items()}
    found |= {"nucleus_share": 0, "nucleus_offset": 0, "nucleus_thickness": 1}
    found |= {f"nucleus_lobes_{depth}": 0 for depth in DEPTHS}
    for part in ("nucleus", "cytoplasm"):
        found |= {f"{part}_{texture}_{distance}": 0 for texture in TEXTURES for distance in DISTANCES}
        found |= {f"{part}_laplacian_{sigma}": 0 for sigma in SIGMAS}
    return found


DIMENSIONS = _dimensions()


def measurement_names(unit: Unit) -> tuple[str, ...]:
    """The 97 names in the order of `measure_cell`, with the unit of areas and lengths: `cell_area_um2`."""
    suffixes = {0: "", 1: f"_{unit}", 2: f"_{unit}2"}
    return tuple(f"{name}{suffixes[power]}" for name, power in DIMENSIONS.items())


def measure_cell(crop: np.ndarray, mask: np.ndarray, pixel: float = 1.0) -> np.ndarray:
    """Measure one cell.

    Colours are quantiles of red, green and blue, 0 to 255; a contrast is the cytoplasm's median less the nucleus's.
    A cell without a separate nucleus (or cytoplasm) has the whole cell's colours there, and zeros for its shape and
    texture.

    Args:
        crop: (h, w, 3) uint8 RGB, at the same scale in both directions.
        mask: (h, w), not 0 on the cell; of an empty one the whole crop is taken.
        pixel: Side of a pixel of the crop in the unit that is wanted, such as µm.

    Returns:
        (97,) float32, finite: see `measurement_names`.
    """
    cell = mask > 0 if mask.any() else np.ones(mask.shape, bool)
    crop, cell = _cut(crop, cell)
    nucleus = find_nucleus(crop, cell)
    cytoplasm = cell & ~nucleus
    shape = regionprops(cell.astype(np.uint8))[0]
    diameter = shape.equivalent_diameter_area
    inner = regionprops(nucleus.astype(np.uint8))[0] if nucleus.any() else None
    colours = [_colours(crop, part if part.any() else cell) for part in (nucleus, cytoplasm)]
    middle = PART_QUANTILES.index(50)
    values = [
        *np.percentile(crop[cell], CELL_QUANTILES, axis=0).ravel(),
        *colours[0].ravel(),
        *colours[1].ravel(),
        *(colours[1][middle] - colours[0][middle]),
        *_shape(shape, pixel),
        diameter * pixel,
        max(cell.shape) * pixel,
        *(_shape(inner, pixel) if inner is not None else [0.0] * len(_SHAPES)),
        nucleus.sum() / cell.sum(),
        np.hypot(*np.subtract(inner.centroid, shape.centroid)) / diameter if inner is not None else 0.0,
        *_depth(nucleus, diameter, pixel),
        *_texture(crop[..., 1], nucleus),
        *_texture(crop[..., 1], cytoplasm),
    ]
    return np.array(values, np.float32)


def find_nucleus(crop: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The nucleus, (h, w) bool: dark in green within the cell, without specks and holes; empty where nothing differs.

    Args:
        crop: (h, w, 3) uint8 RGB.
        cell: (h, w) bool, not empty.
    """
    green = crop[..., 1]
    inside = green[cell]
    if inside.min() == inside.max():
        return np.zeros_like(cell)
    dark = ((green <= threshold_otsu(inside)) & cell).astype(np.uint8)
    _, parts, facts, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    large = np.flatnonzero(facts[:, cv2.CC_STAT_AREA] >= SPECK * cell.sum())
    dark = np.isin(parts, large[large > 0]).astype(np.uint8)
    _, gaps, facts, _ = cv2.connectedComponentsWithStats(1 - np.pad(dark, 1), connectivity=8)
    small = np.flatnonzero(facts[:, cv2.CC_STAT_AREA] < SPECK * cell.sum())  # a hole of a ring's size is cytoplasm
    return ((dark > 0) | np.isin(gaps[1:-1, 1:-1], small)) & cell


def _cut(crop: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y, width, height = cv2.boundingRect(cell.astype(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    return np.ascontiguousarray(crop[window]), cell[window]


def _colours(crop: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.percentile(crop[part], PART_QUANTILES, axis=0)


def _shape(region, pixel: float) -> list[float]:  # type: ignore[no-untyped-def]
    perimeter = region.perimeter_crofton
    return [
        region.area * pixel**2,
        region.axis_major_length * pixel,
        region.axis_minor_length * pixel,
        region.eccentricity,
        region.solidity,
        min(4 * np.pi * region.area / perimeter**2, 1.0) if perimeter > 0 else 1.0,
    ]


def _depth(nucleus: np.ndarray, diameter: float, pixel: float) -> list[float]:
    """Diameter of the largest disc within the nucleus, and its parts after each erosion."""
    distance = cv2.distanceTransform(np.pad(nucleus, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    lobes = [cv2.connectedComponents((distance > k / 100 * diameter).astype(np.uint8))[0] - 1 for k in DEPTHS]
    return [2 * float(distance.max()) * pixel, *map(float, lobes)]


def _texture(grey: np.ndarray, part: np.ndarray) -> list[float]:
    """Co-occurrence of grey levels and spread of the Laplacian of Gaussian, within the part alone."""
    levels = np.where(part, grey // (256 // GREY_LEVELS) + 1, 0).astype(np.uint8)  # 0 is outside
    counts = graycomatrix(levels, DISTANCES, ANGLES, levels=GREY_LEVELS + 1, symmetric=True)[1:, 1:].astype(np.float64)
    if not counts.any(axis=(0, 1)).all():  # too thin for one of the distances
        return [0.0] * (len(TEXTURES) * len(DISTANCES) + len(SIGMAS))
    counts /= counts.sum(axis=(0, 1))
    textures = [graycoprops(counts, name).mean(axis=1) for name in TEXTURES]
    smooth = [cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma) for sigma in SIGMAS]
    rough = [float(cv2.Laplacian(image, cv2.CV_32F)[part].std()) for image in smooth]
    return [*np.concatenate(textures), *rough]
