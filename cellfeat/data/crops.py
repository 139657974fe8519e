"""The picture and the mask of one cell, cut out and brought to one size."""

from __future__ import annotations

import numpy as np
from PIL import Image


def crop_cell(
    image: np.ndarray, mask: np.ndarray, box: np.ndarray, size: int, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square around a cell and resize it.

    The square is centred on the box, its side the box's longer side plus `margin` on each side; beyond the image's
    border the border's pixels are repeated.

    Args:
        image: RGB uint8 (h, w, 3).
        mask: bool (h, w), the cell.
        box: (4,) XYXY, px of the image.
        size: Side of the crop, px.
        margin: On each side, as a fraction of the box's longer side.

    Returns:
        crop RGB uint8 (size, size, 3) and mask uint8 0/1 (size, size) in the crop's frame.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    left, top = (x0 + x1) / 2 - half, (y0 + y1) / 2 - half
    pad = int(np.ceil(max(0, -left, -top, left + 2 * half - image.shape[1], top + 2 * half - image.shape[0])))
    window = (left + pad, top + pad, left + pad + 2 * half, top + pad + 2 * half)
    picture = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    outline = np.pad(mask.astype(np.uint8) * 255, pad)
    resize = {"size": (size, size), "resample": Image.Resampling.BILINEAR, "box": window}
    crop = np.asarray(Image.fromarray(picture).resize(**resize))  # type: ignore[arg-type]
    crop_mask = np.asarray(Image.fromarray(outline).resize(**resize)) >= 128  # type: ignore[arg-type]
    return crop, crop_mask.astype(np.uint8)
