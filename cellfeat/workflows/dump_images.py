"""The images of a dump, read ahead of the network, a bounded number of pixels at a time."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cellfeat.data.catalogue import ImageRecord
from cellfeat.data.images import MAX_PIXELS, UnreadableImage
from cellfeat.data.slides import picture_size, read_picture
from cellfeat.data.urls import bring_all
from cellfeat.errors import CellfeatError

PIXELS = (
    MAX_PIXELS // 2
)  # read at once, unless one image has more; 8 images of 4 million pixels. Twice that is in memory

Part = tuple[list[ImageRecord], list[np.ndarray | str | None]]
"""Images that go through the network together: records, and each picture, the reason why it cannot be read, or None for
images that are set aside."""


def read_ahead(
    records: Sequence[ImageRecord], size: int, done: set[str], pixels: int = PIXELS, aside: Container[str] = ()
) -> Iterator[Part]:
    """Read the batches of a listing that are not wholly done, the next part while this one is used.

    Batches are cut out of the whole listing, and divided by their own images alone: what goes through the network
    together never depends on where an earlier dump was interrupted.

    Args:
        records: The whole listing.
        size: Images of a batch.
        done: Ids of the images that are stored already.
        pixels: What the images of one part have together at most.
        aside: Ids of images that are not read here.

    Raises:
        CellfeatError: The folder of an image has vanished (a disk unplugged, a mount lost): no fault of the image, so
            it must not be stored as unreadable.
    """
    batches = (records[start : start + size] for start in range(0, len(records), size))
    wanted = (batch for batch in batches if any(record.image_id not in done for record in batch))
    parts = (part for batch in wanted for part in _parts(batch, pixels, aside))
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(next, parts, None)
        while (part := ahead.result()) is not None:
            ahead = reader.submit(next, parts, None)
            yield part


def _parts(batch: Sequence[ImageRecord], pixels: int, aside: Container[str]) -> Iterator[Part]:
    records: list[ImageRecord] = []
    images: list[np.ndarray | str | None] = []
    total = 0
    bring_all(record.path for record in batch if record.image_id not in aside)
    for record in batch:
        more = 0 if record.image_id in aside else _pixels(record)
        if records and total + more > pixels:
            yield records, images
            records, images, total = [], [], 0
        records.append(record)
        images.append(None if record.image_id in aside else _read(record))
        total += more
    yield records, images


def _pixels(record: ImageRecord) -> int:
    try:
        height, width = picture_size(record.path)
    except UnreadableImage:
        return 0
    return height * width


def _read(record: ImageRecord) -> np.ndarray | str:
    if not record.path.is_file() and not record.path.parent.is_dir():
        raise CellfeatError(f"{record.path.parent}: the folder of images has vanished", "bring it back and run again")
    try:
        return read_picture(record.path, record.bits)
    except UnreadableImage as error:
        return error.reason
