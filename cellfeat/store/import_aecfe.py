"""A store from the files of the AE-CFE reference implementation (github.com/marrlab/AE-CFE): gzip-pickled dicts.

Its feature files hold, by image name, `feats` (k, 14, 14, 256), `rois` (k, 4) as rows and columns (y0, x0, y1, x1) in
an image resized to 400 x 400 px, `label` (the site's code) and perhaps `masks` (400, 400, k). Its image files hold the
images (h, w, 3) uint8 RGB by the same names. Nothing in the files is run
(`cellfeat.core.pickle_file`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cellfeat.core.files import sha256_file
from cellfeat.core.pickle_file import read_pickle
from cellfeat.core.progress import Progress
from cellfeat.data.crops import crop_cell
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store
from cellfeat.store.rows import CellRow, ImageResult
from cellfeat.store.writer import StoreWriter

log = logging.getLogger(__name__)

FRAME = 400  # px, side that the reference resizes images to before detection
CROP_SIZE, CROP_MARGIN = 128, 0.1
SCORE = 0.7  # the reference keeps detections from 0.7 on and not their scores


def import_aecfe(
    features: str | Path, images: Sequence[str | Path], output: str | Path, domain: str, vocabulary: str = "matek-19"
) -> Store:
    """Make a store of one dataset's feature file and its image files; run again after an interruption, it goes on.

    Boxes are put into pixels of the original images, crops are cut as a dump cuts them (a symmetric margin, not the
    reference's -10/+20 px), labels go through a vocabulary, images that it drops are left out. Scores, which the
    reference did not keep, are its threshold of 0.7. An image with several cells gives them no label: nobody
    said which it is of. Nor has one whose code the vocabulary does not hold; such codes are logged. Images without
    features, and features without an image, are left out.

    Args:
        features: Feature file (.dat.gz).
        images: Image files.
        output: Folder of the store.
        domain: Name of the site; ids are `<domain>/<image name>`.
        vocabulary: Name or file of the labels' vocabulary.

    Raises:
        CellfeatError: A file is missing, damaged, names anything but arrays, or is not of that form.
    """
    content = _load(Path(features))
    pictures: dict[str, Any] = {}
    for path in images:
        pictures |= _load(Path(path))
    keys = sorted(key for key in content if isinstance(key, str) and key in pictures)
    if not keys:
        raise CellfeatError(f"{features}: none of its images is in the image files; give those of the same dataset")
    codes = [_code(features, content, key) for key in keys]
    meanings = load_vocabulary(vocabulary)
    if unknown := meanings.unknown(codes):
        log.warning("%s: codes %s are not in vocabulary %s: no label", features, ", ".join(unknown), meanings.name)
    labels = meanings.translate(codes)
    provenance = {
        "made_by": "import-aecfe",
        "features_sha256": sha256_file(features),
        "images_sha256": sorted(sha256_file(path) for path in images),
        "domain": domain,
        "vocabulary": Path(vocabulary).name,
        "crop": {"size": CROP_SIZE, "margin": CROP_MARGIN},
    }
    with StoreWriter(output, (256, 14, 14), CROP_SIZE, provenance, "float16") as writer:
        for key, label in zip(Progress(keys, desc="import", unit="image"), labels):
            image_id = f"{domain}/{key}"
            if label is None or image_id in writer.done:
                continue
            image = pictures[key]
            if not _is_picture(image):
                raise CellfeatError(f"image {key!r} is no (h, w, 3) uint8 array; give the reference's image files")
            cells = _cells(features, content, key, image, label)
            writer.add(ImageResult(image_id, domain, label, image.shape[1], image.shape[0], cells=cells))
    return Store(output)


def _cells(source: str | Path, content: dict, key: str, image: np.ndarray, label: str) -> list[CellRow]:
    maps = _numbers(source, content, key, "feats", (14, 14, 256))
    boxes = _numbers(source, content, key, "rois", (4,)).astype(np.float64)
    if len(maps) != len(boxes):
        raise CellfeatError(f"{source}: {key!r} has {len(maps)} features and {len(boxes)} boxes")
    if not _are_boxes(boxes):
        raise CellfeatError(f"{source}: {key!r} has rois that are no (y0, x0, y1, x1) within 0 to {FRAME} px")
    masks = _masks(source, content, key, len(boxes))
    height, width = image.shape[:2]
    rows = []
    for feature, (y0, x0, y1, x1), mask in zip(maps, boxes, masks):
        box = np.array([x0 * width, y0 * height, x1 * width, y1 * height], np.float32) / FRAME
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
        crop, crop_mask = crop_cell(image, mask, box, CROP_SIZE, CROP_MARGIN)
        own = label if len(boxes) == 1 else ""
        rows.append(CellRow(feature.astype(np.float32).transpose(2, 0, 1), crop, crop_mask, box, SCORE, own))
    return rows


def _code(source: str | Path, content: dict, key: str) -> str:
    code = _field(source, content, key, "label")
    if isinstance(code, bytes):  # of Python 2
        code = code.decode("latin-1")
    if not isinstance(code, str):
        raise CellfeatError(f"{source}: the label of {key!r} is no text")
    return code


def _numbers(source: str | Path, content: dict, key: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An entry's array of numbers, as rows of `shape`."""
    try:
        found = np.asarray(_field(source, content, key, name))
        if found.size and found.dtype.kind in "biuf":
            return found.reshape(-1, *shape)
        if found.size == 0:
            return np.zeros((0, *shape), np.float32)
    except (ValueError, TypeError):  # lists of unequal lengths, another number of values
        pass
    raise CellfeatError(f"{source}: {key!r} has no {name} of shape (k, {', '.join(map(str, shape))})")


def _is_picture(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size > 0


def _are_boxes(boxes: np.ndarray) -> bool:
    """Whether boxes are finite, not empty, and within the frame but for a pixel of rounding."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return bool(np.isfinite(boxes).all() and (low >= -1).all() and (high <= FRAME + 1).all() and (low < high).all())


def _masks(source: str | Path, content: dict, key: str, count: int) -> np.ndarray:
    """uint8 (count, 400, 400): the masks, or empty ones where there are none."""
    masks = content[key].get("masks")
    if masks is None:
        return np.zeros((count, FRAME, FRAME), np.uint8)
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "biuf" or masks.shape != (FRAME, FRAME, count):
        raise CellfeatError(f"{source}: {key!r} has masks that are no array ({FRAME}, {FRAME}, {count})")
    return (masks > 0.5).transpose(2, 0, 1).astype(np.uint8)


def _field(source: str | Path, content: dict, key: str, name: str) -> Any:
    entry = content[key]
    if not isinstance(entry, dict) or name not in entry:
        raise CellfeatError(f"{source}: {key!r} has no {name!r}; give a feature file of the reference implementation")
    return entry[name]


def _load(path: Path) -> dict:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: holds no dict by image name; give a file of the reference implementation")
    return content
