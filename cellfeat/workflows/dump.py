"""The one place where detector and store meet: images in, shards of cells out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from fvcore.common.config import CfgNode

from cellfeat.core.files import digest, sha256_file, write_json
from cellfeat.core.lock import FolderLock
from cellfeat.core.precision import usable
from cellfeat.core.progress import Progress
from cellfeat.data.catalogue import Dataset, ImageRecord, open_dataset
from cellfeat.data.class_tree import joined_classes
from cellfeat.data.crops import crop_cell
from cellfeat.data.images import UnreadableImage
from cellfeat.detection import Detector, build_detector, detectron2_problem
from cellfeat.detection.checkpoint import resolve_weights
from cellfeat.detection.classes import class_names
from cellfeat.detection.config import portable
from cellfeat.detection.device import resolve_device
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.suppression import keep_outer
from cellfeat.errors import CellfeatError, MissingWeights
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter
from cellfeat.store.classes import CLASSES
from cellfeat.store.discard import discard_rows
from cellfeat.store.fields import whole_images, whole_table
from cellfeat.store.join import join_parts
from cellfeat.store.schema import MANIFEST, SHARDS, metadata_element, own_folder
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_fields import Field, field_tiles, find_fields
from cellfeat.workflows.dump_images import read_ahead

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
BACKBONES = "detectron2://ImageNetPretrained/"
RANKS = ".ranks"  # inside the store's folder, until the ranks' stores are one


def dump(
    cfg: CfgNode,
    datasets: Sequence[str | Dataset],
    output: Path,
    config: DumpConfig,
    engine: str = "auto",
    ranks: int = 1,
    data_root: Path | None = None,
) -> Store:
    """Run a detector over datasets and store what it finds; run again after an interruption, it goes on.

    Images go through the network in fixed batches (see `read_ahead`), so that a resumed dump stores the numbers of an
    unbroken one. Images that cannot be read are stored with the reason and do not stop the run. The folder then also
    holds summary.json (see `summarise`).

    Args:
        cfg: The detector's config; `MODEL.WEIGHTS` names its checkpoint.
        datasets: Names of the catalogue, or opened datasets such as those of `cellfeat.data.paths.open_paths`.
        output: Folder of the store.
        config: What to keep.
        engine: As in `build_detector`.
        ranks: Processes, one a GPU where there are GPUs, each with a run of neighbouring batches; the store has the
            same rows in the same order whatever their number. A store that was begun is completed by one process.
        data_root: The folder that holds the datasets; None: as `cellfeat.data.catalogue.data_root` says.

    Raises:
        CellfeatError: No weights, no images, or a store in `output` that was made from other inputs.
    """
    check_weights(cfg.MODEL.WEIGHTS)
    opened = _opened(datasets, data_root)
    listings, classes = listings_of(opened, config), _own_classes(opened)
    for one in opened:
        _say_what_it_holds(one)
    if ranks == 1 or (output / MANIFEST).exists():
        _write(cfg, listings, classes, output, config, engine)
    else:
        _write_in_ranks(cfg, datasets, output, config, engine, ranks, data_root)
    _remove_ranks(output)
    store = Store(output)
    write_json(output / SUMMARY, summarise(store, _records(listings)))
    _check_readable(store)
    return store


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


def _check_readable(store: Store) -> None:
    """A store of unreadable images alone is a failure, such as a wrong suffix or a download that was cut."""
    images = store.images()
    if len(images) and (images["reason"] != "").all():
        discard_rows(store.path)  # a failed try must not block a corrected one
        reasons = ", ".join(f"{count} {reason}" for reason, count in images["reason"].value_counts().items())
        raise CellfeatError(
            f"{store.path}: none of the {len(images)} images can be read: {reasons}; the first is "
            f"{images['image_id'].iloc[0]}",
            "correct the images or the dataset.yaml and dump again",
        )


def _opened(datasets: Sequence[str | Dataset], data_root: Path | None) -> list[Dataset]:
    return [open_dataset(one, data_root) if isinstance(one, str) else one for one in datasets]


def listings_of(datasets: Sequence[Dataset], config: DumpConfig) -> dict[str, list[ImageRecord]]:
    """The images that a dump takes of each dataset, by its name.

    Raises:
        CellfeatError: A dataset cannot be used, or has metadata of a name that a store cannot have.
    """
    listings = {one.name: one.records()[: config.limit] for one in datasets}
    for name in {name for record in _records(listings) for name in record.stored_metadata}:
        metadata_element(name)  # a name that the store refuses is said before the detector runs
    return listings


def _say_what_it_holds(dataset: Dataset) -> None:
    """Images, annotated ones, reference cells, and what is left out; a dump goes on where these cells are of no use."""
    try:
        log.info("%s", dataset.summary(read_masks=False))
    except CellfeatError as error:
        if dataset.spec.strict:
            raise
        log.warning("dataset %s: its reference cells cannot be used: %s", dataset.name, error)


def _own_classes(datasets: Sequence[Dataset]) -> dict[str, str]:
    """Class to parent of the datasets' own classes: they go into the store, whose labels are of them."""
    return joined_classes({one.name: one.classes for one in datasets}).own


def _records(listings: dict[str, list[ImageRecord]]) -> list[ImageRecord]:
    return [record for listed in listings.values() for record in listed]


def _write(
    cfg: CfgNode,
    listings: dict[str, list[ImageRecord]],
    classes: dict[str, str],
    output: Path,
    config: DumpConfig,
    engine: str,
    part: slice = slice(None),
) -> None:
    """Store the images `part` of the listings; the provenance is that of all of them."""
    precision = usable(config.precision, resolve_device(cfg.MODEL.DEVICE))
    detector = build_detector(cfg, engine, pool=config.pool, precision=precision)
    provenance = {
        "datasets": list(listings),
        "images": {name: listing_digest(listed) for name, listed in listings.items()},
        "engine": detector.name,
        "detector_config": portable(cfg),
        "weights_sha256": sha256_file(resolve_weights(cfg.MODEL.WEIGHTS)),
        "dump": config.identity() | {"precision": precision},
    }
    if classes:
        provenance[CLASSES] = classes
    with StoreWriter(output, detector.feature_shape, config.crop_size, provenance, config.feature_dtype) as writer:
        fields = find_fields(cfg, detector, listings, output, config)
        _fill(writer, detector, _records(listings)[part], config, fields, class_names(cfg))


def _write_in_ranks(
    cfg: CfgNode,
    datasets: Sequence[str | Dataset],
    output: Path,
    config: DumpConfig,
    engine: str,
    ranks: int,
    data_root: Path | None,
) -> None:
    """A store a rank by Detectron2's `launch`, then one manifest over the shards of all."""
    if problem := detectron2_problem():
        raise CellfeatError(f"--ranks {ranks}: processes are started by Detectron2's launcher, but {problem}")
    from cellfeat.detection.detectron2_engine.processes import launch_processes

    if output.is_dir() and any(not file.name.startswith(".") and file.name != SHARDS for file in output.iterdir()):
        raise CellfeatError(f"{output}: not empty and not a feature store; choose another folder")
    with FolderLock(output) as lock:  # from the start, so that no second dump begins here meanwhile
        folder = own_folder(output / RANKS)
        launch_processes(_write_rank, ranks, cfg, datasets, folder, config, engine, data_root)
        join_parts([folder / f"{rank}-of-{ranks}" for rank in range(ranks)], output, lock)


def _remove_ranks(output: Path) -> None:
    """Remove the stores of ranks, also those of a dump that was interrupted and then completed by one process."""
    folder = output / RANKS
    if folder.is_dir() and not folder.is_symlink():
        with FolderLock(output):
            shutil.rmtree(folder)


def _write_rank(
    cfg: CfgNode,
    datasets: Sequence[str | Dataset],
    folder: Path,
    config: DumpConfig,
    engine: str,
    data_root: Path | None,
) -> None:
    """This rank's whole batches: cut elsewhere, an image would meet other neighbours and its numbers other rounding."""
    from detectron2.data.samplers import InferenceSampler
    from detectron2.utils import comm

    opened = _opened(datasets, data_root)
    listings, size = listings_of(opened, config), config.batch_size
    batches = list(InferenceSampler(-(-len(_records(listings)) // size)))
    part = slice(batches[0] * size, (batches[-1] + 1) * size) if batches else slice(0)
    output = folder / f"{comm.get_rank()}-of-{comm.get_world_size()}"
    _write(cfg, listings, _own_classes(opened), output, config, engine, part)


def listing_digest(records: Sequence[ImageRecord]) -> str:
    """Digest of what a dump takes from a dataset: ids, labels, scales, metadata and the sizes of the files in bytes.

    Sizes are taken for the content: reading an archive to digest it takes as long as copying it; a changed image
    whose file keeps its size to the byte is not noticed.
    """
    sizes = [record.path.stat().st_size if record.path.is_file() else None for record in records]
    return digest([[*record.identity, size] for record, size in zip(records, sizes, strict=True)])


def _fill(
    writer: StoreWriter,
    detector: Detector,
    records: list[ImageRecord],
    config: DumpConfig,
    fields: Mapping[str, Field],
    names: Sequence[str],
) -> None:
    """Store the records' cells.

    Args:
        fields: Those of the images that are stored as tiles.
        names: The detector's classes.
    """
    done = writer.done | {name for name, field in fields.items() if not field.missing(writer.done)}
    already, limit = sum(record.image_id in done for record in records), detector.max_detections
    with_more = at_limit = 0
    with Progress(total=len(records), initial=already, desc="dump", unit="image") as progress:
        for batch, images in read_ahead(records, config.batch_size, done, aside=fields):
            readable = [
                (record, image) for record, image in zip(batch, images, strict=True) if isinstance(image, np.ndarray)
            ]
            instances = detector.detect([image for _, image in readable], [record.um_per_px for record, _ in readable])
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
                    writer.add(_result(record, image, cells, config, names))
                progress.update()
            instances, found, cells = [], {}, None  # masks of whole images are not kept beside those of the next part
    if at_limit:
        log.warning(
            "%d images have %d cells or more with a score of at least %g, and the detector gives no more than that: "
            "raise TEST.DETECTIONS_PER_IMAGE, or cells are lost",
            *(at_limit, limit, config.score_threshold),
        )
    if with_more and config.select != "all":
        kept = {"center": "central", "score": "best scored"}[config.select]
        log.info(
            "%d of the %d images dumped now have more than one cell with a score of at least %g; "
            "only the %s one is kept (select: all keeps every cell)",
            *(with_more, len(records) - already, config.score_threshold, kept),
        )


def _add_field(writer: StoreWriter, detector: Detector, field: Field, config: DumpConfig, names: Sequence[str]) -> None:
    """Store the tiles of a field that are missing."""
    record = field.record
    try:
        for tile, rgb, cells in field_tiles(field, detector, writer.done, config.batch_size, config.score_threshold):
            result = ImageResult(
                *(field.image_id(tile), record.domain, record.label, rgb.shape[1], rgb.shape[0]),
                cells=[_row(rgb, cells, i, "", config, names) for i in range(len(cells))],
                metadata=record.stored_metadata,
                tile_of=record.image_id,
                tile_x=tile.box[0],
                tile_y=tile.box[1],
            )
            writer.add(result)
    except UnreadableImage as error:
        writer.add(_result(record, error.reason, None, config, names))


def _result(
    record: ImageRecord,
    image: np.ndarray | str,
    cells: CellInstances | None,
    config: DumpConfig,
    names: Sequence[str],
) -> ImageResult:
    if isinstance(image, str):
        return ImageResult(
            record.image_id, record.domain, record.label, 0, 0, reason=image, metadata=record.stored_metadata
        )
    assert cells is not None
    height, width = image.shape[:2]
    kept = select_cells(cells, config.select, config.score_threshold)
    # The image's label is that of the cell in its centre; what else is in the picture nobody labelled.
    labelled = central_cell(cells, config.score_threshold) if config.select != "all" else _most_central(cells, kept)
    rows = [_row(image, cells, i, record.label if i == labelled else "", config, names) for i in kept]
    return ImageResult(
        record.image_id, record.domain, record.label, width, height, cells=rows, metadata=record.stored_metadata
    )


def _row(
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


def summarise(store: Store, records: Sequence[ImageRecord]) -> dict[str, dict[str, float | int | None]]:
    """Per domain: images, unreadable, with_cell, cells, detection_rate, and the mean over images with one reference box
    of the best IoU that a stored cell has with it (`mean_iou`, over `iou_images` images; a missed cell counts 0)."""
    references = {record.image_id: np.array(record.boxes[0]) for record in records if len(record.boxes) == 1}
    cells = {
        name: rows[["x0", "y0", "x1", "y1"]].to_numpy()
        for name, rows in whole_table(store.table(), store.images()).groupby("image_id")
    }
    summary = {}
    for domain, images in whole_images(store.images()).groupby("domain", sort=False):
        readable = images[images["reason"] == ""]
        overlaps = [
            float(np.max(iou(cells[name], references[name]))) if name in cells else 0.0
            for name in readable["image_id"]
            if name in references
        ]
        summary[str(domain)] = {
            "images": len(images),
            "unreadable": len(images) - len(readable),
            "with_cell": int((readable["cells"] > 0).sum()),
            "cells": int(readable["cells"].sum()),
            "detection_rate": float((readable["cells"] > 0).mean()) if len(readable) else None,
            "mean_iou": float(np.mean(overlaps)) if overlaps else None,
            "iou_images": len(overlaps),
        }
    return summary


def iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) boxes with one (4,) box, all XYXY px: (n,); 0 of two empty boxes."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    intersection = inner.clip(min=0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    union = area - intersection
    return np.divide(intersection, union, out=np.zeros(len(boxes)), where=union > 0)


def summary_table(summary: dict[str, dict[str, float | int | None]]) -> str:
    """`summarise`'s dict as lines for a terminal."""
    table = pd.DataFrame.from_dict(summary, orient="index")
    table.index.name = "domain"
    return table.reset_index().to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}")
