"""The cells of a store as a table that people read: where each lies, how large, how round and of what colour it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from skimage.measure import regionprops

from cellfeat.core.progress import Progress
from cellfeat.data.crops import crop_window
from cellfeat.data.measurements import find_nucleus
from cellfeat.store import Store
from cellfeat.store.fields import whole_table

BATCH = 256  # cells read at once
NUMBERS = ("area", "diameter", "eccentricity", "nucleus_cytoplasm_ratio", "red", "green", "blue")


def cell_table(store: Store, margin: float, um_per_px: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a cell, in store order.

    Areas and diameters are of the mask (that of a circle of the same area), the ratio is nucleus to cytoplasm by area,
    with the nucleus of `cellfeat.data.measurements.find_nucleus`; colours are means over the mask, 0 to 255. Cells
    without a mask have none of these.

    Args:
        store: The store.
        margin: That of its crops, as a fraction of the box's longer side.
        um_per_px: Image id to µm a pixel, where it is known.

    Returns:
        cell_id, image_id (of the whole image), domain, label, score, x, y (centre of the box), x0, y0, x1, y1,
        area_px2, diameter_px; area_um2, diameter_um if the scale of any image is known; eccentricity,
        nucleus_cytoplasm_ratio, red, green, blue; then the metadata.
    """
    table = whole_table(store.table(), store.images())
    boxes = table[["x0", "y0", "x1", "y1"]].to_numpy(float)
    measured = pd.DataFrame(list(_measured(store, boxes, margin)), columns=NUMBERS, dtype=float)
    table.insert(5, "x", (boxes[:, 0] + boxes[:, 2]) / 2)
    table.insert(6, "y", (boxes[:, 1] + boxes[:, 3]) / 2)
    found = {"area_px2": measured.pop("area"), "diameter_px": measured.pop("diameter")}
    scale = table["image_id"].map(dict(um_per_px or {})).astype(float)
    if scale.notna().any():
        found |= {"area_um2": found["area_px2"] * scale**2, "diameter_um": found["diameter_px"] * scale}
    first = list(table.columns[: table.columns.get_loc("y1") + 1])
    return pd.concat([table[first], pd.DataFrame(found), measured, table.drop(columns=first)], axis=1)


def _measured(store: Store, boxes: np.ndarray, margin: float) -> Iterator[tuple[float, ...]]:
    for start in Progress(range(0, len(store), BATCH), desc="measure", unit="batch"):
        rows = slice(start, start + BATCH)
        for crop, mask, box in zip(store.read("crops", rows), store.read("masks", rows), boxes[rows], strict=True):
            yield _measure(crop, mask > 0, crop_window(box, margin)[2] / len(crop))


def _measure(crop: np.ndarray, mask: np.ndarray, pixel: float) -> tuple[float, ...]:
    """`NUMBERS` of a cell; `pixel`: px of the image a px of the crop."""
    if not mask.any():
        return (np.nan,) * len(NUMBERS)
    [cell] = regionprops(mask.astype(np.uint8))
    nucleus = int(find_nucleus(crop, mask).sum())
    around = int(mask.sum()) - nucleus
    ratio = nucleus / around if around and nucleus else np.nan
    return (
        cell.area * pixel**2,
        cell.equivalent_diameter_area * pixel,
        cell.eccentricity,
        ratio,
        *crop[mask].mean(axis=0),
    )
