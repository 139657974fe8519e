"""Which of the cells that a detector finds in an image are kept, and the image with them as the store takes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellfeat.data.catalogue import ImageRecord
from cellfeat.data.crops import crop_cell
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.suppression import keep_outer
from cellfeat.store import CellRow, ImageResult
from cellfeat.workflows.dump_config import DumpConfig


def image_result(
    record: ImageRecord,
    image: np.ndarray | str,
    cells: CellInstances | None,
    config: DumpConfig,
    names: Sequence[str],
) -> ImageResult:
    """An image (h, w, 3) with those of its cells that are kept; in place of one that cannot be read is the reason.

    Args:
        record: The image.
        image: Its pixels, or the reason.
        cells: What the detector found in it.
        config: Of the dump.
        names: The detector's classes.
    """
    if isinstance(image, str):
        return ImageResult(
            record.image_id, record.domain, record.label, 0, 0, reason=image, metadata=record.stored_metadata
        )
    assert cells is not None
    height, width = image.shape[:2]
    kept = select_cells(cells, config.select, config.score_threshold)
    # The image's label is that of the cell in its centre; what else is in the picture nobody labelled.
    labelled = central_cell(cells, config.score_threshold) if config.select != "all" else _most_central(cells, kept)
    rows = [cell_row(image, cells, i, record.label if i == labelled else "", config, names) for i in kept]
    return ImageResult(
        record.image_id, record.domain, record.label, width, height, cells=rows, metadata=record.stored_metadata
    )


def cell_row(
    image: np.ndarray, cells: CellInstances, i: int, label: str, config: DumpConfig, names: Sequence[str]
) -> CellRow:
    """Cell `i` of an image (h, w, 3); a detector of one class predicts none."""
    mask = cells.masks[i] if len(cells.masks) else np.zeros(image.shape[:2], bool)
    crop, crop_mask = crop_cell(image, mask, cells.boxes[i], config.crop_size, config.crop_margin)
    further = {"detected_class": names[cells.classes[i]]} if len(names) > 1 else {}
    return CellRow(cells.roi_features[i], crop, crop_mask, cells.boxes[i], float(cells.scores[i]), label, further)


def central_cell(cells: CellInstances, score_threshold: float) -> int | None:
    """The cell whose box is nearest to the image's centre; of several boxes that contain it, the best scored."""
    return _most_central(cells, np.flatnonzero(cells.scores >= score_threshold).tolist())


def _most_central(cells: CellInstances, candidates: Sequence[int]) -> int | None:
    height, width = cells.image_size
    x, y = width / 2, height / 2
    best = None
    for i in candidates:
        x0, y0, x1, y1 = cells.boxes[i]
        distance = np.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1))
        if best is None or (distance, -cells.scores[i]) < best[:2]:
            best = (distance, -cells.scores[i], i)
    return best[2] if best else None


def select_cells(cells: CellInstances, select: str, score_threshold: float) -> list[int]:
    """Indices of the cells to keep, scores from `score_threshold`: the central one, the best scored one, or all.

    Of all, those that lie within others are left out (see `keep_outer`): parts of cells, and cells found twice.
    """
    if select == "center":
        central = central_cell(cells, score_threshold)
        return [] if central is None else [central]
    good = np.flatnonzero(cells.scores >= score_threshold)
    if select == "all":
        good = good[keep_outer(cells.boxes[good], cells.scores[good])]
    return sorted(good.tolist(), key=lambda i: -cells.scores[i])[: 1 if select == "score" else None]
