"""Large fields as overlapping tiles: each cell is found whole in some tile, and counted once.

Tiles overlap by at least the diameter of a cell, so that every cell lies wholly in a tile. The field is divided into
the cores of the tiles, which do not overlap. A cell belongs to the tile whose core holds the centre of its box. Where
two tiles see a cell differently, each may find the centre in its own core, or a part of the cell beside the whole.
These are suppressed by intersection over the smaller box.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellfeat.detection.detector import Detector
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.suppression import keep_outer
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


def tile_grid(size: tuple[int, int], side: int, overlap: int) -> list[list[Tile]]:
    """The tiles of a field in rows and columns; a field that is no larger than a tile is one tile.

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
        [Tile((x.start, y.start, x.end, y.end), (x.core_start, y.core_start, x.core_end, y.core_end)) for x in columns]
        for y in rows
    ]


def detect_field(
    detector: Detector,
    read: Callable[[Tile], np.ndarray],
    grid: Sequence[Sequence[Tile]],
    um_per_px: float | None = None,
    batch_size: int = 4,
    score_threshold: float = 0.0,
    skip: Container[Tile] = (),
) -> Iterator[tuple[Tile, CellInstances]]:
    """Find the cells of a field tile by tile.

    What a tile yields depends on it and its eight neighbours alone, so that tiles can be left out. Three rows of tiles
    are in memory.

    Args:
        detector: Either engine's.
        read: Gives the picture of a tile, RGB uint8 (h, w, 3).
        grid: As `tile_grid` gives it.
        um_per_px: The field's scale, µm a pixel, if known.
        batch_size: Tiles at once.
        score_threshold: Lowest score of a cell; what is below does not suppress others either.
        skip: Tiles to leave out.

    Yields:
        Each tile with the cells that belong to it, in the tile's frame (XYXY px; masks (n, tile height, tile width)).
    """
    found: dict[int, list[CellInstances]] = {}
    for r, row in enumerate(grid):
        if all(tile in skip for tile in row):
            continue
        found = {k: cells for k, cells in found.items() if k >= r - 1}
        for near in range(max(r - 1, 0), min(r + 2, len(grid))):
            if near not in found:
                found[near] = _detect_row(detector, read, grid[near], um_per_px, batch_size, score_threshold)
        for c, tile in enumerate(row):
            if tile not in skip:
                yield tile, _without_nested(grid, found, r, c)


def _detect_row(
    detector: Detector,
    read: Callable[[Tile], np.ndarray],
    row: Sequence[Tile],
    um_per_px: float | None,
    batch_size: int,
    score_threshold: float,
) -> list[CellInstances]:
    """The cells of each tile whose centres are in its core."""
    found: list[CellInstances] = []
    for start in range(0, len(row), batch_size):
        batch = row[start : start + batch_size]
        cells = detector.detect([read(tile) for tile in batch], [um_per_px] * len(batch))
        found += [_choose(one, _in_core(one, tile, score_threshold)) for tile, one in zip(batch, cells, strict=True)]
    return found


def _without_nested(
    grid: Sequence[Sequence[Tile]], found: dict[int, list[CellInstances]], r: int, c: int
) -> CellInstances:
    """The cells of a tile without those that lie within others of it or of its neighbours."""
    near = [(r, c)] + [
        (row, column)
        for row in range(max(r - 1, 0), min(r + 2, len(grid)))
        for column in range(max(c - 1, 0), min(c + 2, len(grid[r])))
        if (row, column) != (r, c)
    ]
    boxes = np.concatenate([found[row][column].boxes + grid[row][column].offset for row, column in near])
    kept = keep_outer(boxes, np.concatenate([found[row][column].scores for row, column in near]))
    return _choose(found[r][c], kept[kept < len(found[r][c])])


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


def _in_core(cells: CellInstances, tile: Tile, score_threshold: float) -> np.ndarray:
    boxes = cells.boxes + tile.offset
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    x0, y0, x1, y1 = tile.core
    inside = ((centre >= (x0, y0)) & (centre < (x1, y1))).all(axis=1)
    return np.flatnonzero(inside & (cells.scores >= score_threshold))


def _choose(cells: CellInstances, rows: np.ndarray) -> CellInstances:
    parts = {name: getattr(cells, name)[rows] for name in ("boxes", "scores", "roi_features", "classes")}
    return replace(cells, masks=cells.masks[rows] if len(cells.masks) else cells.masks, **parts)
