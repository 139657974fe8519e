"""Large fields in a dump: which pictures they are, how they are cut, and their tiles as images of the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from fvcore.common.config import CfgNode

from cellfeat.core.files import as_written, read_json, write_json
from cellfeat.core.progress import Progress
from cellfeat.data.dataset import ImageRecord
from cellfeat.data.images import UnreadableImage, read_rgb
from cellfeat.data.slides import is_slide, open_slide, picture_size
from cellfeat.data.urls import bring_all
from cellfeat.detection.detector import Detector
from cellfeat.detection.scale import CELL_UM, Tiling, cell_diameter, choose_tiling, is_field, too_small
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.tiling import Tile, detect_field, tile_grid
from cellfeat.workflows.dump_config import DumpConfig

log = logging.getLogger(__name__)

DIAMETERS = "cell-diameters.json"  # in the store's folder: what the first pass found, for a run that goes on
LOOKED_AT = 4  # fields of a dataset in the first pass
TOGETHER = 64  # images by URL that are fetched for their headers
SAMPLE = 4096  # px, side of the region of a slide in the first pass: 0.4 to 1 mm


@dataclass(frozen=True)
class Field:
    """A picture that is dumped as tiles.

    Attributes:
        record: The image.
        size: (height, width), px.
        tiling: How it is cut.
    """

    record: ImageRecord
    size: tuple[int, int]
    tiling: Tiling

    @cached_property
    def grid(self) -> list[list[Tile]]:
        return tile_grid(self.size, self.tiling.side, self.tiling.overlap)

    def image_id(self, tile: Tile) -> str:
        """The id of a tile in the store."""
        return f"{self.record.image_id}@{tile.box[0]},{tile.box[1]}"

    def missing(self, done: set[str]) -> list[Tile]:
        """Tiles that are not stored yet; none where the field could not be read."""
        if self.record.image_id in done:
            return []
        return [tile for row in self.grid for tile in row if self.image_id(tile) not in done]


def find_fields(
    cfg: CfgNode,
    listings: Mapping[str, Sequence[ImageRecord]],
    config: DumpConfig,
    diameters: Diameters,
) -> dict[str, Field]:
    """The fields among the images, by image id.

    Args:
        cfg: The detector's config.
        listings: Dataset to its images, or to those of a part of the dump.
        config: Of the dump.
        diameters: Of the cells of datasets without a known scale.
    """
    fields: dict[str, Field] = {}
    small = 0
    for name, records in listings.items():
        sizes = _sizes(records)
        for record in _large(cfg, records, sizes) if config.fields == "tile" else ():
            size = sizes[record.image_id]
            diameter = None if record.um_per_px else diameters.of(name)
            if tiling := choose_tiling(cfg, size, record.um_per_px, diameter):
                fields[record.image_id] = Field(record, size, tiling)
        whole = [r for r in records if r.image_id in sizes.keys() - fields.keys()]
        small += sum(too_small(cfg, sizes[r.image_id], r.um_per_px) for r in whole)
    if fields:
        tiles = sum(len(field.grid) * len(field.grid[0]) for field in fields.values())
        log.info("%d of the images are fields, dumped as %d tiles; of these all cells are kept", len(fields), tiles)
    if small:
        log.warning(
            "in %d pictures cells of %g µm are smaller than the detector can see: take higher magnifications",
            *(small, CELL_UM),
        )
    return fields


class Diameters:
    """The size of the cells of datasets that do not tell their scale, from a first pass over some of their fields.

    Args:
        cfg: The detector's config.
        detector: Looks at the fields.
        listings: Dataset to all of its images: a part of a dump looks at the same fields as the whole.
        file: Where what was found is kept, for a run that goes on and for other parts.
        score_threshold: Lowest score of a cell.
    """

    def __init__(
        self,
        cfg: CfgNode,
        detector: Detector,
        listings: Mapping[str, Sequence[ImageRecord]],
        file: Path,
        score_threshold: float,
    ) -> None:
        self._cfg, self._detector, self._listings = cfg, detector, listings
        self._file, self._score_threshold = file, score_threshold
        self._known: dict[str, float | None] = {}
        if file.exists():
            with as_written(file, "remove it and run again"):
                known = read_json(file)
                self._known = {name: None if known[name] is None else float(known[name]) for name in known}

    def of(self, name: str) -> float | None:
        """The diameter of the cells of dataset `name`, px; None where none was found."""
        if name not in self._known:
            records = self._listings[name]
            unscaled = [r for r in _large(self._cfg, records, _sizes(records)) if not r.um_per_px]
            self._known[name] = _look(self._cfg, self._detector, name, unscaled, self._score_threshold)
            write_json(self._file, self._known)
        return self._known[name]


def field_tiles(
    field: Field, detector: Detector, done: set[str], batch_size: int, score_threshold: float
) -> Iterator[tuple[Tile, np.ndarray, CellInstances]]:
    """The tiles of a field that are not stored yet, with their pictures and their cells in the tile's frame.

    Raises:
        UnreadableImage: The field cannot be read.
    """
    missing = set(field.missing(done))
    skip = {tile for row in field.grid for tile in row} - missing
    limit = detector.max_detections
    detector.max_detections = max(limit, MAX_DETECTIONS)
    try:
        with _reader(field) as read:
            um_per_px = field.record.um_per_px
            for tile, cells in detect_field(detector, read, field.grid, um_per_px, batch_size, score_threshold, skip):
                yield tile, read(tile), cells
    finally:
        detector.max_detections = limit


MAX_DETECTIONS = 1000  # of a tile: Detectron2's RPN hands on no more proposals


@contextmanager
def _reader(field: Field) -> Iterator[Callable[[Tile], np.ndarray]]:
    """What gives the pictures of tiles: of a slide each is read from the file, another field is read once."""
    if is_slide(field.record.path):
        with open_slide(field.record.path) as slide:
            yield lambda tile: slide.read(*tile.box[:2], tile.box[2] - tile.box[0], tile.box[3] - tile.box[1])
    else:
        rgb = read_rgb(field.record.path, bits=field.record.bits)
        yield lambda tile: np.ascontiguousarray(rgb[tile.box[1] : tile.box[3], tile.box[0] : tile.box[2]])


def _look(
    cfg: CfgNode, detector: Detector, name: str, records: Sequence[ImageRecord], score_threshold: float
) -> float | None:
    """The diameter of a dataset's cells, px; None where none was found."""
    chosen = [records[k] for k in sorted({round(k) for k in np.linspace(0, len(records) - 1, LOOKED_AT)})]
    log.info("%s: large pictures of unknown scale; looking at %d of them for the size of cells", name, len(chosen))
    pictures = []
    for record in chosen:
        try:
            pictures.append(_sample(record))
        except UnreadableImage:
            continue
    diameter = cell_diameter(detector, cfg, pictures, score_threshold)
    if diameter is None:
        log.warning(
            "%s: no cell was found at any scale; the pictures are taken at full size, where cells may be smaller or "
            "larger than the detector can see: state um_per_px in a dataset.yaml",
            name,
        )
    else:
        log.info("%s: cells are about %.0f px wide", name, diameter)
    return diameter


def _sample(record: ImageRecord) -> np.ndarray:
    """A field, or the region of a slide that is stained most, RGB uint8."""
    if not is_slide(record.path):
        return read_rgb(record.path, bits=record.bits)
    with open_slide(record.path) as slide:
        return slide.stained_region(SAMPLE)


def _large(cfg: CfgNode, records: Sequence[ImageRecord], sizes: Mapping[str, tuple[int, int]]) -> list[ImageRecord]:
    """The images that are too large for the detector; `sizes` of `_sizes`."""
    return [r for r in records if r.image_id in sizes and is_field(cfg, sizes[r.image_id], r.um_per_px)]


def _sizes(records: Sequence[ImageRecord]) -> dict[str, tuple[int, int]]:
    """Image id → (height, width), of the images that can be read."""
    found: dict[str, tuple[int, int]] = {}
    with Progress(total=len(records), desc="sizes", unit="image", leave=False) as progress:
        for start in range(0, len(records), TOGETHER):
            some = records[start : start + TOGETHER]
            bring_all(record.path for record in some)
            found |= {record.image_id: size for record in some if (size := _size(record.path))}
            progress.update(len(some))
    return found


def _size(path: Path) -> tuple[int, int] | None:
    """(height, width) of an image from its header; None where it cannot be read, which is said where it is."""
    try:
        return picture_size(path)
    except UnreadableImage:
        return None
