"""A store from the files of the AE-CFE reference implementation (github.com/marrlab/AE-CFE): gzip-pickled dicts.

Its feature files hold, by image name, `feats` (k, 14, 14, 256), `rois` (k, 4) as rows and columns (y0, x0, y1, x1) in
an image resized to 400 x 400 px, `label` (the site's code) and perhaps `masks` (400, 400, k). Its image files hold the
images (h, w, 3) uint8 RGB by the same names. Nothing in the files is run
(`cellfeat.core.pickle_file`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from cellfeat.core.files import sha256_file
from cellfeat.core.pickle_file import read_pickle
from cellfeat.data.crops import crop_cell
from cellfeat.data.vocabulary import load_vocabulary
from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store
from cellfeat.store.rows import CellRow, ImageResult
from cellfeat.store.writer import StoreWriter

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
    said which it is of. Images without features, and features without an image, are left out.

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
    codes = [str(_field(features, content, key, "label")) for key in keys]
    labels = load_vocabulary(vocabulary).harmonise(codes, str(features))
    provenance = {
        "made_by": "import-aecfe",
        "features_sha256": sha256_file(features),
        "images_sha256": sorted(sha256_file(path) for path in images),
        "domain": domain,
        "vocabulary": Path(vocabulary).name,
        "crop": {"size": CROP_SIZE, "margin": CROP_MARGIN},
    }
    with StoreWriter(output, (256, 14, 14), CROP_SIZE, provenance, "float16") as writer:
        for key, label in zip(tqdm(keys, desc="import", unit="image", disable=None), labels):
            image_id = f"{domain}/{key}"
            if label is None or image_id in writer.done:
                continue
            image = pictures[key]
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise CellfeatError(f"image {key!r} is no (h, w, 3) uint8 array; give the reference's image files")
            cells = _cells(features, content, key, image, label)
            writer.add(ImageResult(image_id, domain, label, image.shape[1], image.shape[0], cells=cells))
    return Store(output)


def _cells(source: str | Path, content: dict, key: str, image: np.ndarray, label: str) -> list[CellRow]:
    feats, rois = (_field(source, content, key, name) for name in ("feats", "rois"))
    try:
        maps = np.asarray(feats, np.float32).reshape(-1, 14, 14, 256)
        boxes = np.asarray(rois, np.float64).reshape(-1, 4)
    except (ValueError, TypeError):
        raise CellfeatError(f"{source}: {key!r} has no feats (k, 14, 14, 256) and rois (k, 4)") from None
    if len(maps) != len(boxes):
        raise CellfeatError(f"{source}: {key!r} has {len(maps)} features and {len(boxes)} boxes")
    height, width = image.shape[:2]
    rows = []
    for k, (feature, (y0, x0, y1, x1)) in enumerate(zip(maps, boxes)):
        box = np.array([x0 * width, y0 * height, x1 * width, y1 * height], np.float32) / FRAME
        mask = _mask(content[key].get("masks"), k, height, width)
        crop, crop_mask = crop_cell(image, mask, box, CROP_SIZE, CROP_MARGIN)
        own = label if len(boxes) == 1 else ""
        rows.append(CellRow(feature.transpose(2, 0, 1), crop, crop_mask, box, SCORE, own))
    return rows


def _mask(masks: Any, k: int, height: int, width: int) -> np.ndarray:
    """Mask `k` in the image's frame; empty where there is none."""
    if not isinstance(masks, np.ndarray) or masks.ndim != 3 or k >= masks.shape[2]:
        return np.zeros((height, width), bool)
    mask = masks[:, :, k].astype(np.uint8)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


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
