"""How large a field's cells are, and at which scale the detector shall see it.

A detector learns on pictures whose short edge becomes INPUT.MIN_SIZE_TEST, most of them of one cell. A field that is
shrunk to that size shows it cells of a few px. So a field is cut into tiles in which cells have the size that the
detector knows. Where nobody states the field's scale, its own cells tell it: a first pass at several scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from cellfeat.detection.detector import Detector
from cellfeat.detection.resize import network_size
from cellfeat.detection.tiling import Tile, tile_grid

# Pictures of one cell that the network sees at most this much smaller than they are stay whole: 575 px at 448 is 1.3.
SHRUNK = 1.5
# A white cell's diameter beside the picture's short edge: 0.25, 0.31 and 0.36 in Acevedo-20, Matek-19 and INT-20. The
# smallest makes the fewest tiles.
CELL = 0.25
FITTING = 2.0  # factor between a cell's size and that, within which the detector is trusted
CELL_UM = 12.0  # µm: white cells in smears are 7 to 20 µm wide
OVERLAP_UM = 25.0  # µm: more than any white cell of a smear
OVERLAP_CELLS = 1.5  # the same where the cells' own median diameter is all that is known
ENLARGED = 8.0  # at most: a cell of 20 px is as large as the network wants it at a short edge of 448
# An anchor of twice a box's side has an IoU of 0.25 with it, below the 0.3 from which RPN takes it for a cell.
SMALLEST = 2
PROBED = 4  # tiles of a field at each scale: those with the darkest spots, where nuclei are
SMALL = 512  # px, long edge of the picture in which dark spots are looked for


@dataclass(frozen=True)
class Tiling:
    """How a field is cut.

    Attributes:
        side: Of a tile, px of the field.
        overlap: Of neighbours, px of the field.
    """

    side: int
    overlap: int


def is_field(cfg: CfgNode, size: tuple[int, int], um_per_px: float | None) -> bool:
    """Whether a picture is so large that its cells may be too small for the detector.

    The network then sees it more than `SHRUNK` times smaller than it is, or than INPUT.UM_PER_PX asks for.

    Args:
        cfg: The detector's config.
        size: (height, width), px.
        um_per_px: The picture's scale, if known.
    """
    wanted = um_per_px / cfg.INPUT.UM_PER_PX if cfg.INPUT.UM_PER_PX and um_per_px else 1.0
    return wanted * max(size) / max(network_size(cfg, size, um_per_px)) > SHRUNK


def too_small(cfg: CfgNode, size: tuple[int, int], um_per_px: float | None) -> bool:
    """Whether the cells of a picture of known scale that stays whole are smaller than the detector can see."""
    if not um_per_px:
        return False
    seen = CELL_UM / um_per_px * max(network_size(cfg, size, um_per_px)) / max(size)
    return seen < min(chain.from_iterable(cfg.MODEL.ANCHOR_GENERATOR.SIZES)) / SMALLEST


def choose_tiling(
    cfg: CfgNode, size: tuple[int, int], um_per_px: float | None, diameter: float | None
) -> Tiling | None:
    """How to cut a picture so that its cells have the size that the detector knows.

    Args:
        cfg: The detector's config.
        size: (height, width) of the picture, px.
        um_per_px: Its scale, if known.
        diameter: Of its cells, px, where the scale is not known; None: they are taken as large enough as they are.

    Returns:
        None: the picture stays whole.
    """
    if not is_field(cfg, size, um_per_px):
        return None
    short = cfg.INPUT.MIN_SIZE_TEST
    if um_per_px:
        diameter = CELL_UM / um_per_px
    if um_per_px and cfg.INPUT.UM_PER_PX:  # the network takes any size at this scale
        side = max(2, round(cfg.INPUT.MAX_SIZE_TEST * cfg.INPUT.UM_PER_PX / um_per_px))
    else:
        scale = min(CELL * short / diameter, ENLARGED) if diameter else 1.0
        if scale * max(size) / max(network_size(cfg, size, None)) <= SHRUNK:
            return None
        side = max(2, round(short / scale))
    overlap = OVERLAP_UM / um_per_px if um_per_px else OVERLAP_CELLS * (diameter or CELL * side)
    return Tiling(side, min(math.ceil(overlap), side * 3 // 4))


def cell_diameter(
    detector: Detector, cfg: CfgNode, fields: Sequence[np.ndarray], score_threshold: float
) -> float | None:
    """The diameter of the cells of fields of one site, px; None where no cell was found at any scale.

    Each field is looked at as a whole, at its own scale, and at powers of 2 between; at each scale in up to `PROBED`
    tiles. Of each field that scale counts at which cells of the size that the detector knows, weighted by their scores,
    cover most of what was looked at: parts of cells and red cells, which too fine a scale shows, cover little. Then the
    median over the fields is taken.

    Args:
        detector: Either engine's.
        cfg: Its config.
        fields: RGB uint8 (h, w, 3) each.
        score_threshold: Lowest score of a cell.
    """
    diameters = []
    for field in fields:
        seen = [_look_at(detector, cfg, field, scale, score_threshold) for scale in _scales(cfg, field.shape[:2])]
        best = max(seen, key=lambda one: one.covered)
        if len(best.sides):
            diameters.append(_weighted_median(best.sides, best.scores))
    return float(np.median(diameters)) if diameters else None


class _Seen(NamedTuple):
    """The cells of fitting size that a field shows at a scale.

    Attributes:
        sides: (n,), px of the field.
        scores: (n,).
        covered: Share of the tiles looked at that they cover, each weighted by its squared score.
    """

    sides: np.ndarray
    scores: np.ndarray
    covered: float


def _scales(cfg: CfgNode, size: tuple[int, int]) -> list[float]:
    whole = max(network_size(cfg, size, None)) / max(size)
    steps = max(0, math.ceil(-math.log2(whole)))
    return [whole * 2**k for k in range(steps + 1)]


def _look_at(detector: Detector, cfg: CfgNode, field: np.ndarray, scale: float, score_threshold: float) -> _Seen:
    """The cells in the most promising tiles of a field."""
    short = cfg.INPUT.MIN_SIZE_TEST
    side = min(round(short / scale), min(field.shape[:2]))
    grid = [tile for row in tile_grid(field.shape[:2], side, side // 4) for tile in row]
    tiles = sorted(grid, key=lambda tile: -_darkness(field, tile))[:PROBED]
    pictures = [np.ascontiguousarray(field[t.box[1] : t.box[3], t.box[0] : t.box[2]]) for t in tiles]
    found = [one for picture in pictures for one in detector.detect([picture], [None])]
    boxes, scores = np.concatenate([one.boxes for one in found]), np.concatenate([one.scores for one in found])
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    size = sides / side / CELL
    fits = (scores >= score_threshold) & (size > 1 / FITTING) & (size < FITTING)
    covered = float(np.square(scores[fits] * sides[fits]).sum()) / (len(tiles) * side**2)
    return _Seen(sides[fits], scores[fits], covered)


def _darkness(field: np.ndarray, tile: Tile) -> float:
    """How dark the darkest spots of a tile are in green, which nuclei absorb most."""
    x0, y0, x1, y1 = tile.box
    green = field[y0:y1, x0:x1, 1]
    factor = min(1.0, SMALL / max(field.shape[:2]))
    small = cv2.resize(green, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else green
    return -float(np.percentile(small, 1))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
