"""Images go through a detector, batch by batch, and their cells into the writer of a store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from cellfeat.core.progress import Progress
from cellfeat.data.catalogue import ImageRecord
from cellfeat.data.images import UnreadableImage
from cellfeat.detection import Detector
from cellfeat.detection.second_look import find_cells
from cellfeat.store import ImageResult, StoreWriter
from cellfeat.workflows.dump_cells import cell_row, image_result
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_fields import Field, field_tiles
from cellfeat.workflows.dump_images import read_ahead

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Of the images that were dumped now: how many, how many with more than one cell, with as many as there may be."""

    images: int = 0
    with_more: int = 0
    at_limit: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + its for mine, its in zip(astuple(self), astuple(other))))

    def say(self, config: DumpConfig, limit: int) -> None:
        """Log what the user may want to change.

        Args:
            config: Of the dump.
            limit: Cells that the detector gives of an image at most.
        """
        if self.at_limit:
            log.warning(
                "%d images have %d cells or more with a score of at least %g, and the detector gives no more than "
                "that: raise TEST.DETECTIONS_PER_IMAGE, or cells are lost",
                *(self.at_limit, limit, config.score_threshold),
            )
        if self.with_more and config.select != "all":
            kept = {"center": "central", "score": "best scored"}[config.select]
            log.info(
                "%d of the %d images dumped now have more than one cell with a score of at least %g; "
                "only the %s one is kept (select: all keeps every cell)",
                *(self.with_more, self.images, config.score_threshold, kept),
            )


def fill(
    writer: StoreWriter,
    detector: Detector,
    records: Sequence[ImageRecord],
    config: DumpConfig,
    fields: Mapping[str, Field],
    names: Sequence[str],
    progress: Progress,
) -> Counts:
    """Store the cells of the images that the writer does not have yet.

    Args:
        writer: Of the store.
        detector: Finds the cells.
        records: The images; batches are cut from the first one on.
        config: Of the dump.
        fields: Those of the images that are stored as tiles, by image id.
        names: The detector's classes.
        progress: Counts the images, those that are stored already first.
    """
    done = writer.done | {name for name, field in fields.items() if not field.missing(writer.done)}
    already, limit = sum(record.image_id in done for record in records), detector.max_detections
    progress.skip(already)
    with_more = at_limit = 0
    for batch, images in read_ahead(records, config.batch_size, done, aside=fields):
        readable = [
            (record, image) for record, image in zip(batch, images, strict=True) if isinstance(image, np.ndarray)
        ]
        scales = [record.um_per_px for record, _ in readable]
        instances = find_cells(detector, [image for _, image in readable], scales, config.score_threshold)
        found = {record.image_id: cells for (record, _), cells in zip(readable, instances, strict=True)}
        for record, image in zip(batch, images, strict=True):
            if record.image_id in done:
                continue
            if image is None:
                _add_field(writer, detector, fields[record.image_id], config, names)
            else:
                cells = found.get(record.image_id)
                good = 0 if cells is None else int((cells.scores >= config.score_threshold).sum())
                with_more += good > 1
                at_limit += good >= limit
                writer.add(image_result(record, image, cells, config, names))
            progress.update()
        instances, found, cells = [], {}, None  # masks of whole images are not kept beside those of the next part
    return Counts(len(records) - already, with_more, at_limit)


def _add_field(writer: StoreWriter, detector: Detector, field: Field, config: DumpConfig, names: Sequence[str]) -> None:
    """Store the tiles of a field that are missing."""
    record = field.record
    try:
        for tile, rgb, cells in field_tiles(field, detector, writer.done, config.batch_size, config.score_threshold):
            result = ImageResult(
                *(field.image_id(tile), record.domain, record.label, rgb.shape[1], rgb.shape[0]),
                cells=[cell_row(rgb, cells, i, "", config, names) for i in range(len(cells))],
                metadata=record.stored_metadata,
                tile_of=record.image_id,
                tile_x=tile.box[0],
                tile_y=tile.box[1],
            )
            writer.add(result)
    except UnreadableImage as error:
        writer.add(image_result(record, error.reason, None, config, names))
