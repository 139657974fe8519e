"""The picture and the mask of one cell, cut out and brought to one size, and the mask put back into the image."""

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
    left, top, side = crop_window(box, margin)
    pad = int(np.ceil(max(0, -left, -top, left + side - image.shape[1], top + side - image.shape[0])))
    window = (left + pad, top + pad, left + pad + side, top + pad + side)
    picture = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    outline = np.pad(mask.astype(np.uint8) * 255, pad)
    resize = {"size": (size, size), "resample": Image.Resampling.BILINEAR, "box": window}
    crop = np.asarray(Image.fromarray(picture).resize(**resize))  # type: ignore[arg-type]
    crop_mask = np.asarray(Image.fromarray(outline).resize(**resize)) >= 128  # type: ignore[arg-type]
    return crop, crop_mask.astype(np.uint8)


def crop_window(box: np.ndarray, margin: float) -> tuple[float, float, float]:
    """The square that a crop shows: its left and top edge and its side, px of the image.

    Args:
        box: (4,) XYXY, px of the image.
        margin: On each side, as a fraction of the box's longer side.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    return (x0 + x1) / 2 - half, (y0 + y1) / 2 - half, 2 * half


def paste_mask(crop_mask: np.ndarray, box: np.ndarray, margin: float, height: int, width: int) -> np.ndarray:
    """Put a mask from the crop's frame back into the image's: the way back of `crop_cell`.

    A mask comes back as it was where the crop has the image's scale and whole pixels. At another scale its outline is
    the crop's, resampled by the filter of `crop_cell`.

    Args:
        crop_mask: 0/1 (size, size), in the crop's frame.
        box: (4,) XYXY, px of the image.
        margin: That of the crop, as a fraction of the box's longer side.
        height, width: Of the image, px.

    Returns:
        bool (height, width).
    """
    mask = np.zeros((height, width), bool)
    left, top, side = crop_window(box, margin)
    if not side > 0:
        return mask
    scale = len(crop_mask) / side  # px of the crop a px of the image
    x0, y0 = int(np.floor(left)), int(np.floor(top))
    across, down = int(np.ceil(left + side)) - x0, int(np.ceil(top + side)) - y0  # whole pixels around the window
    pad = int(np.ceil(scale)) + 1  # px of the crop, so that these pixels lie within it
    source = ((x0 - left) * scale + pad, (y0 - top) * scale + pad)
    window = (*source, source[0] + across * scale, source[1] + down * scale)
    outline = Image.fromarray(np.pad(crop_mask.astype(np.uint8) * 255, pad))
    pasted = np.asarray(outline.resize((across, down), Image.Resampling.BILINEAR, window)) >= 128
    inside = pasted[max(0, -y0) : max(0, height - y0), max(0, -x0) : max(0, width - x0)]
    mask[max(0, y0) : max(0, y0) + inside.shape[0], max(0, x0) : max(0, x0) + inside.shape[1]] = inside
    return mask
