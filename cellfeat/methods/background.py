"""The Leukopy article's background filter: the cell lies near the centre of the crop and is purpler than the rest.

The article states no more than that. Here a pixel's purple is how far red and blue both exceed green, the threshold is
Otsu's, thin bridges are cut, and of the connected regions the one nearest to the centre is the cell, its holes filled.
No detector is needed. Where red cells touch the cell broadly, they are kept with it.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

SMOOTHING = 0.02  # of the crop's side: granules and noise do not split a cell
BRIDGE = 0.06  # of the side: edges of red cells are no wider, and are cut off
SMALLEST = 0.005  # of the crop's area: smaller regions are stain, not cells


def purple_masks(crops: np.ndarray) -> np.ndarray:
    """Masks (n, S, S) uint8 0/1 of crops (n, S, S, 3) uint8 RGB; all 1 where nothing is purpler than the rest."""
    return np.stack([_purple_mask(crop) for crop in crops]) if len(crops) else np.zeros(crops.shape[:3], np.uint8)


def _purple_mask(crop: np.ndarray) -> np.ndarray:
    side = crop.shape[0]
    red, green, blue = np.moveaxis(crop.astype(np.float32), -1, 0)
    purple = cv2.GaussianBlur(np.minimum(red, blue) - green, (0, 0), max(0.5, SMOOTHING * side))
    spread = float(purple.max() - purple.min())
    if spread < 1:  # of 255: a crop of one colour
        return np.ones((side, side), np.uint8)
    stretched = ((purple - purple.min()) / spread * 255).astype(np.uint8)
    _, above = cv2.threshold(stretched, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    width = max(1, round(BRIDGE * side))
    above = cv2.morphologyEx(above, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    regions, count = ndimage.label(above)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    large = 1 + np.flatnonzero(sizes >= SMALLEST * side**2)
    if len(large) == 0:
        return np.ones((side, side), np.uint8)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    away = ndimage.minimum(np.hypot(y, x), regions, large)
    return ndimage.binary_fill_holes(regions == large[int(np.argmin(away))]).astype(np.uint8)
