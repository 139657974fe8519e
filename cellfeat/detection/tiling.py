"""Large fields as overlapping tiles: each cell is found whole in some tile, and counted once.

Tiles overlap by at least the diameter of a cell, so that every cell lies wholly in a tile. The field is divided into
the cores of the tiles, which do not overlap. A cell belongs to the tile whose core holds the centre of its box. Where
two tiles see a cell differently, each may find the centre in its own core, or a part of the cell beside the whole.
These are suppressed by intersection over the smaller box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cellfeat.detection.detector import Detector
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.suppression import NESTED, keep_outer
from cellfeat.errors import CellfeatError


@dataclass(frozen=True)
class Tile:
    """A part of a field, in px of the field: from (x0, y0) up to but without (x1, y1).

    Attributes:
        box: (x0, y0, x1, y1), what the detector sees.
        core: (x0, y0, x1, y1) within `box`; the cores of all tiles cover the field without overlap.
    """

    box: tuple[int, int, int, int]
    core: tuple[int, int, int, int]

    @property
    def offset(self) -> np.ndarray:
        """(x0, y0, x0, y0): added to XYXY px of the tile it gives XYXY px of the field."""
        return np.array([*self.box[:2], *self.box[:2]], np.float32)


def tile_grid(size: tuple[int, int], side: int, overlap: int) -> list[Tile]:
    """The tiles of a field, row by row; a field that is no larger than a tile is one tile.

    Args:
        size: (height, width) of the field, px.
        side: Height and width of a tile, px; at the field's edge tiles move inwards and overlap more.
        overlap: Px that neighbours share at least: the diameter of the largest cell.

    Raises:
        CellfeatError: An empty field, or an overlap of a whole tile or more.
    """
    if min(size) < 1 or not 0 <= overlap < side:
        raise CellfeatError(f"tiles of {side} px that overlap by {overlap} px do not cover a field of {size} px")
    rows, columns = (list(_intervals(length, side, overlap)) for length in size)
    return [
        Tile((x.start, y.start, x.end, y.end), (x.core_start, y.core_start, x.core_end, y.core_end))
        for y in rows
        for x in columns
    ]


def detect_field(
    detector: Detector,
    field: np.ndarray,
    side: int,
    overlap: int,
    um_per_px: float | None = None,
    batch_size: int = 4,
    threshold: float = NESTED,
) -> list[tuple[Tile, CellInstances]]:
    """Find the cells of a field tile by tile.

    Args:
        detector: Either engine's.
        field: RGB uint8 (h, w, 3).
        side: As in `tile_grid`.
        overlap: As in `tile_grid`.
        um_per_px: The field's scale, µm a pixel, if known.
        batch_size: Tiles at once.
        threshold: As in `keep_outer`.

    Returns:
        Each tile with the cells that belong to it, in the tile's frame (XYXY px; masks (n, tile height, tile width)):
        masks in the frame of a whole field of many cells would not fit into memory.
    """
    tiles = tile_grid(field.shape[:2], side, overlap)
    found: list[CellInstances] = []
    for start in range(0, len(tiles), batch_size):
        batch = tiles[start : start + batch_size]
        pictures = [np.ascontiguousarray(field[t.box[1] : t.box[3], t.box[0] : t.box[2]]) for t in batch]
        cells = detector.detect(pictures, [um_per_px] * len(batch))
        found += [_choose(one, _in_core(one, tile)) for tile, one in zip(batch, cells, strict=True)]
    boxes = np.concatenate([one.boxes + tile.offset for tile, one in zip(tiles, found, strict=True)])
    kept = keep_outer(boxes, np.concatenate([one.scores for one in found]), threshold)
    starts = np.cumsum([0, *(len(one) for one in found)])
    return [
        (tile, _choose(one, kept[(kept >= start) & (kept < end)] - start))
        for tile, one, start, end in zip(tiles, found, starts[:-1], starts[1:], strict=True)
    ]


@dataclass(frozen=True)
class _Interval:
    start: int
    end: int
    core_start: int
    core_end: int


def _intervals(length: int, side: int, overlap: int) -> Iterator[_Interval]:
    """Tiles along one axis; the borders of the cores lie in the middle of each overlap."""
    number = max(1, -(-(length - overlap) // (side - overlap)))
    starts = [min(k * (side - overlap), max(length - side, 0)) for k in range(number)]
    ends = [min(start + side, length) for start in starts]
    borders = [0, *((end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)), length]
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        yield _Interval(start, end, borders[k], borders[k + 1])


def _in_core(cells: CellInstances, tile: Tile) -> np.ndarray:
    boxes = cells.boxes + tile.offset
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    x0, y0, x1, y1 = tile.core
    return np.flatnonzero(((centre >= (x0, y0)) & (centre < (x1, y1))).all(axis=1))


def _choose(cells: CellInstances, rows: np.ndarray) -> CellInstances:
    parts = {name: getattr(cells, name)[rows] for name in ("boxes", "scores", "roi_features", "classes")}
    return replace(cells, masks=cells.masks[rows] if len(cells.masks) else cells.masks, **parts)
