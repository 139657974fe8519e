"""The one place where detector and store meet: images in, shards of cells out, all of a dump or block by block."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from fvcore.common.config import CfgNode

from cellfeat.core.files import digest, sha256_file, sync_folder, write_json
from cellfeat.core.lock import FolderLock
from cellfeat.core.precision import usable
from cellfeat.core.progress import Progress
from cellfeat.core.run_record import RunRecord
from cellfeat.data.catalogue import Dataset, ImageRecord, open_dataset
from cellfeat.data.class_tree import joined_classes
from cellfeat.detection import Detector, build_detector
from cellfeat.detection.checkpoint import resolve_weights
from cellfeat.detection.classes import class_names
from cellfeat.detection.config import portable
from cellfeat.detection.device import resolve_device
from cellfeat.errors import CannotWrite, CellfeatError, MissingWeights
from cellfeat.store import Store, StoreWriter
from cellfeat.store.classes import CLASSES
from cellfeat.store.discard import discard_rows
from cellfeat.store.schema import metadata_element
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_fields import DIAMETERS, Diameters, find_fields
from cellfeat.workflows.dump_fill import Counts, fill
from cellfeat.workflows.dump_summary import SUMMARY, summarise

log = logging.getLogger(__name__)

BACKBONES = "detectron2://ImageNetPretrained/"
BLOCKS = ".blocks"  # inside the store's folder, until it is joined
BLOCK = "block.json"  # the record of a block, in its folder
PARTIAL = ".partial"  # ends the name of the folder of a block that is being made
MOST_BLOCKS = 1_000_000
BLOCK_IMAGES, LEAST_BLOCKS = 1000, 64  # a block is a shard of images of one cell; a small dump can still be shared out


class Dumper:
    """A dump as a whole, or block by block: on any machine, in any order, some of them twice.

    Images go through the network in fixed batches (see `read_ahead`), and a block is a run of whole batches. So the
    numbers of a cell never depend on how a dump was divided or interrupted. It may be pickled; each process then
    builds its own detector::

        dumper = Dumper(cfg, ["my-site"], DumpConfig())
        for number, (start, stop) in enumerate(dumper.blocks):
            dumper.block(start, stop, block_folder(store, number))
        join_blocks(store)  # of cellfeat.workflows.dump_join

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names its checkpoint.
        datasets: Names of the catalogue, or opened datasets such as those of `cellfeat.data.paths.open_paths`.
        config: What to keep.
        engine: As in `build_detector`.
        data_root: The folder that holds the datasets; None: as `cellfeat.data.catalogue.data_root` says.

    Attributes:
        config: As given.
        records: All images, in the order of the store.

    Raises:
        CellfeatError: No weights, no images.
    """

    def __init__(
        self,
        cfg: CfgNode,
        datasets: Sequence[str | Dataset],
        config: DumpConfig,
        engine: str = "auto",
        data_root: Path | None = None,
    ) -> None:
        check_weights(cfg.MODEL.WEIGHTS)
        opened = [open_dataset(one, data_root) if isinstance(one, str) else one for one in datasets]
        self._cfg, self.config, self._engine = cfg, config, engine
        self._listings = listings_of(opened, config)
        self._classes = joined_classes({one.name: one.classes for one in opened}).own
        self._digests = {name: listing_digest(listed) for name, listed in self._listings.items()}
        self.records = [record for listed in self._listings.values() for record in listed]
        for one in opened:
            _say_what_it_holds(one)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "detector"}

    @property
    def batches(self) -> int:
        """Number of batches of all images."""
        return -(-len(self.records) // self.config.batch_size)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The batches (start, stop) of each block, see `blocks_of`."""
        return blocks_of(self.batches, self.config.batch_size)

    def images(self, number: int) -> int:
        """How many images a block has."""
        start, stop = (batch * self.config.batch_size for batch in self.blocks[number])
        return min(stop, len(self.records)) - start

    @cached_property
    def detector(self) -> Detector:
        """Built at first use, in each process."""
        return build_detector(self._cfg, self._engine, pool=self.config.pool, precision=self._precision)

    def whole(self, folder: Path) -> Store:
        """Store all images in `folder`; run again after an interruption, it goes on.

        The folder then also holds summary.json, see `cellfeat.workflows.dump_summary.summarise`.

        Raises:
            CellfeatError: The store in `folder` was made from other inputs, or no image can be read.
        """
        with Progress(total=len(self.records), desc="dump", unit="image") as progress:
            counts = self._write(folder, slice(None), folder / DIAMETERS, progress)
        self.say(counts)
        store = Store(folder)
        write_json(folder / SUMMARY, summarise(store, self.records))
        check_readable(store)
        return store

    def block(
        self,
        start: int,
        stop: int,
        folder: Path,
        progress: Progress | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> Counts:
        """Store batches `start` to `stop` as a store of its own in `folder`, which is whole or absent.

        Several processes may try the same block: the first to end counts, and what the others made is removed.

        Args:
            start: Number of the first batch.
            stop: Number of the batch after the last one.
            folder: Of the block. Its parent keeps what blocks share.
            progress: Counts the images.
            note: JSON values to keep in the block's record.

        Returns:
            What was seen; nothing where the block is done already.

        Raises:
            DifferentInputs: The block in `folder` was made from other inputs.
        """
        images = slice(start * self.config.batch_size, stop * self.config.batch_size)
        inputs = {"batches": [start, stop], "of": self.batches, "batch_size": self.config.batch_size, **self.provenance}
        if RunRecord(folder, inputs, name=BLOCK).check():
            return Counts()
        _remove_tries(folder)
        attempt = folder.with_name(f".{folder.name}.{uuid4().hex}{PARTIAL}")
        with FolderLock(attempt):  # while it lives no other try removes it
            try:
                bar, store = Progress(disable=True) if progress is None else progress, attempt / folder.name
                counts = self._write(store, images, folder.with_name(DIAMETERS), bar)
                summary = summarise(Store(store), self.records[images])
                RunRecord(store, inputs, name=BLOCK).done(summary=summary, note=dict(note or {}))
                with suppress(OSError):  # another try was quicker
                    store.rename(folder)
                sync_folder(folder.parent)
            finally:
                shutil.rmtree(attempt, ignore_errors=True)
        if not RunRecord(folder, inputs, name=BLOCK).check():
            raise CannotWrite(
                f"{folder}: the block could not be put in its place", "see that this folder can be written"
            )
        return counts

    def say(self, counts: Counts) -> None:
        """Log what the user may want to change."""
        counts.say(self.config, self.detector.max_detections)

    def _write(self, folder: Path, images: slice, diameters: Path, progress: Progress) -> Counts:
        """Store `images` of the records; the provenance is that of all of them."""
        config, detector = self.config, self.detector
        listings = _part(self._listings, *images.indices(len(self.records))[:2])
        writer = StoreWriter(folder, detector.feature_shape, config.crop_size, self.provenance, config.feature_dtype)
        with writer:
            sizes = Diameters(self._cfg, detector, self._listings, diameters, config.score_threshold)
            fields = find_fields(self._cfg, listings, config, sizes)
            names = class_names(self._cfg)
            return fill(writer, detector, self.records[images], config, fields, names, progress)

    @cached_property
    def _precision(self) -> str:
        return usable(self.config.precision, resolve_device(self._cfg.MODEL.DEVICE))

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the rows depend on, as JSON values."""
        found = {
            "datasets": list(self._listings),
            "images": self._digests,
            "engine": self.detector.name,
            "detector_config": portable(self._cfg),
            "weights_sha256": sha256_file(resolve_weights(self._cfg.MODEL.WEIGHTS)),
            "dump": self.config.identity() | {"precision": self._precision},
        }
        return found | ({CLASSES: self._classes} if self._classes else {})


def blocks_of(batches: int, batch_size: int) -> list[tuple[int, int]]:
    """The batches (start, stop) of each block: at most 1,000 images, and of small dumps some 64 blocks."""
    size = max(1, min(-(-batches // LEAST_BLOCKS), BLOCK_IMAGES // batch_size))
    starts = range(0, batches, size)
    if len(starts) > MOST_BLOCKS:  # a forged record of a block
        raise ValueError(f"{batches} batches of {batch_size} images, no dump has so many")
    return [(start, min(start + size, batches)) for start in starts]


def block_folder(store: Path, number: int) -> Path:
    """Where a block lies until the store is joined."""
    return store / BLOCKS / f"{number:05d}"


def check_weights(weights: str) -> None:
    """Refuse weights of a backbone, which a config's own MODEL.WEIGHTS are: a dump needs a whole detector.

    Raises:
        MissingWeights: None are named, or those that training starts from.
        CellfeatError: There is no such file.
    """
    if not weights or weights.startswith(BACKBONES):
        named = f"MODEL.WEIGHTS {weights} is a backbone that training starts from" if weights else "none is named"
        raise MissingWeights(
            f"a dump needs a trained detector, and {named}",
            "give the checkpoint that train-net wrote, such as --weights output/model_final.pth; the detector that is "
            "built in takes no config and no weights",
        )
    resolve_weights(weights)


def check_readable(store: Store) -> None:
    """A store of unreadable images alone is a failure, such as a wrong suffix or a download that was cut.

    Raises:
        CellfeatError: It is. The store is left empty, so that a failed try does not block a corrected one.
    """
    images = store.images()
    if len(images) and (images["reason"] != "").all():
        discard_rows(store.path)
        reasons = ", ".join(f"{count} {reason}" for reason, count in images["reason"].value_counts().items())
        raise CellfeatError(
            f"{store.path}: none of the {len(images)} images can be read: {reasons}; the first is "
            f"{images['image_id'].iloc[0]}",
            "correct the images or the dataset.yaml and dump again",
        )


def listings_of(datasets: Sequence[Dataset], config: DumpConfig) -> dict[str, list[ImageRecord]]:
    """The images that a dump takes of each dataset, by its name.

    Raises:
        CellfeatError: A dataset cannot be used, or has metadata of a name that a store cannot have.
    """
    listings = {one.name: one.records()[: config.limit] for one in datasets}
    for name in {name for listed in listings.values() for record in listed for name in record.stored_metadata}:
        metadata_element(name)  # a name that the store refuses is said before the detector runs
    return listings


def listing_digest(records: Sequence[ImageRecord]) -> str:
    """Digest of what a dump takes from a dataset: ids, labels, scales, metadata and the sizes of the files in bytes.

    Sizes are taken for the content: reading an archive to digest it takes as long as copying it; a changed image
    whose file keeps its size to the byte is not noticed.
    """
    sizes = [record.path.stat().st_size if record.path.is_file() else None for record in records]
    return digest([[*record.identity, size] for record, size in zip(records, sizes, strict=True)])


def _say_what_it_holds(dataset: Dataset) -> None:
    """Images, annotated ones, reference cells, and what is left out; a dump goes on where these cells are of no use."""
    try:
        log.info("%s", dataset.summary(read_masks=False))
    except CellfeatError as error:
        if dataset.spec.strict:
            raise
        log.warning("dataset %s: its reference cells cannot be used: %s", dataset.name, error)


def _part(listings: Mapping[str, list[ImageRecord]], start: int, stop: int) -> dict[str, list[ImageRecord]]:
    """Of each dataset, the images from number `start` of all to `stop`."""
    part, first = {}, 0
    for name, listed in listings.items():
        part[name] = listed[max(start - first, 0) : max(stop - first, 0)]
        first += len(listed)
    return part


def _remove_tries(folder: Path) -> None:
    """Remove what dead processes left of a block."""
    for left in folder.parent.glob(f".{folder.name}.*{PARTIAL}"):
        with suppress(CellfeatError), FolderLock(left):  # of a living one, or of one whose death cannot be seen here
            shutil.rmtree(left)
