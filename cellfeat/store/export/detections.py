"""Detections for annotation tools: COCO, GeoJSON for QuPath, YOLO, label images, in pixels of the original image."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cellfeat.core.files import atomic_path
from cellfeat.core.progress import Progress
from cellfeat.core.version import __version__
from cellfeat.data.annotations.geometry import encode
from cellfeat.data.crops import paste_mask
from cellfeat.errors import CellfeatError
from cellfeat.store.export.outlines import polygons
from cellfeat.store.fields import whole_images, whole_table
from cellfeat.store.guard import check_memory
from cellfeat.store.margin import margin_of
from cellfeat.store.reader import Store
from cellfeat.store.schema import box_fits

UNLABELLED = "WBC"  # class of a cell without a label: what the detector calls every cell
BLOCK = 256  # cells whose masks are read at a time
MOST_LABELS = 65_535  # of a 16-bit image

logger = logging.getLogger(__name__)


@dataclass
class Detection:
    """One cell in its image.

    Attributes:
        cell_id: Its id; the number after `#` is its rank by score.
        name: Its label, `UNLABELLED` where it has none.
        score: Confidence of the detection.
        box: (4,) float XYXY px of the original image.
        mask: bool (h, w) in the frame of the original image; the box's pixels where the store has an empty mask.
    """

    cell_id: str
    name: str
    score: float
    box: np.ndarray
    mask: np.ndarray


@dataclass
class DetectedImage:
    """One readable image and its cells by descending score; masks are pasted when they are asked for.

    Attributes:
        image_id: Its id.
        width, height: Px of the original image.
        cells: Its cells.
    """

    image_id: str
    width: int
    height: int
    cells: Iterator[Detection]


def write_detections(store: Store, output: Path, to: str, crop_margin: float | None = None) -> None:
    """Write the cells of a store for an annotation tool. Images that could not be read are left out.

    - coco: one file; `file_name` is the image's id; annotations with bbox (XYWH px), segmentation (compressed RLE),
      area, score and the cell's id; one category a label, and "WBC" for cells without one.
    - geojson: `<image id without suffix>.geojson`, a FeatureCollection that QuPath imports into that image: outlines
      along the pixels' edges, classification, name and score of each cell.
    - yolo: `<image id without suffix>.txt`, a line `class x_center y_center width height` a cell as fractions of the
      image, and `classes.txt`. An image without a cell has an empty file.
    - labels: `<image id without suffix>.png`, 16 bits; k + 1 on the pixels of the cell `#k`, 0 elsewhere. Where cells
      overlap, the better scored one is seen.

    Args:
        store: The store.
        output: The file or folder; a folder must be absent or empty. It appears whole or not at all.
        to: A key of `DETECTIONS`.
        crop_margin: As in `export`.

    Raises:
        CellfeatError: The crop's margin is unknown, two images would have one file, or the folder is not empty.
    """
    margin = margin_of(store, "give it with --crop-margin") if crop_margin is None else crop_margin
    DETECTIONS[to](store, margin, output)


def detected_images(store: Store, margin: float) -> Iterator[DetectedImage]:
    """The readable images of a store in its order, with their cells in the image's frame; tiles make one field.

    Raises:
        CellfeatError: A box is not within its image.
    """
    images, table = whole_images(store.images()), whole_table(store.table(), store.images())
    sizes = images.set_index("image_id").loc[table["image_id"], ["width", "height"]].to_numpy()
    boxes = table[["x0", "y0", "x1", "y1"]].to_numpy(float)
    fits = box_fits(boxes, *sizes.T)
    if not fits.all():
        raise CellfeatError(f"cell {table['cell_id'][~fits].iloc[0]!r} has a box outside its image", "verify the store")
    rows_of = table.groupby("image_id", sort=False).indices
    ids, names, scores = (table[name].tolist() for name in ("cell_id", "label", "score"))
    kept = _Masks(store)
    empty = 0

    def cells(image: Any, rows: np.ndarray) -> Iterator[Detection]:
        nonlocal empty
        for row in rows.tolist():
            mask = paste_mask(kept[row], boxes[row], margin, image.height, image.width)
            if not mask.any():
                empty += 1
                x0, y0, x1, y1 = (max(0, round(value)) for value in boxes[row])
                mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
            yield Detection(ids[row], names[row] or UNLABELLED, scores[row], boxes[row], mask)

    readable = images[images["reason"] == ""]
    for image in Progress(readable.itertuples(), total=len(readable), desc="export", unit="image"):
        check_memory(f"image {image.image_id!r}", 4 * image.width * image.height)  # a mask, its copy, 16-bit labels
        rows = rows_of.get(image.image_id, np.empty(0, np.int64))
        yield DetectedImage(str(image.image_id), image.width, image.height, cells(image, rows))
    if left_out := len(images) - len(readable):
        logger.warning("%d images that could not be read are left out", left_out)
    if empty:
        logger.warning("%d cells have no mask in the store: their boxes are drawn in its place", empty)


class _Masks:
    """Masks of a store by row, read a block at a time."""

    def __init__(self, store: Store) -> None:
        self._store, self._start = store, 0
        self._masks = np.empty((0, 1, 1), np.uint8)

    def __getitem__(self, row: int) -> np.ndarray:
        if not self._start <= row < self._start + len(self._masks):
            self._start = row
            self._masks = self._store.read("masks", slice(row, row + BLOCK))
        return self._masks[row - self._start]


def _classes(table: pd.DataFrame) -> list[str]:
    """Names of the classes, by name; a class of a site's own may be called as an unlabelled cell is."""
    return sorted(set(table["label"].replace("", UNLABELLED)))


def _write_coco(store: Store, margin: float, output: Path) -> None:
    classes = _classes(store.table()) or [UNLABELLED]
    images: list[dict[str, Any]] = []
    number = 0
    with atomic_path(output) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write('{"info": ' + _json({"description": f"cellfeat {__version__}", "store_digest": store.digest}))
        file.write(',\n"annotations": [')  # one at a time, since those of a million cells take gigabytes
        for image in detected_images(store, margin):
            images.append(
                {"id": len(images) + 1, "file_name": image.image_id, "width": image.width, "height": image.height}
            )
            for cell in image.cells:
                number += 1
                x0, y0, x1, y1 = cell.box.tolist()
                annotation = {
                    "id": number,
                    "image_id": len(images),
                    "category_id": classes.index(cell.name) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": encode(cell.mask),
                    "area": int(cell.mask.sum()),
                    "iscrowd": 0,
                    "score": cell.score,
                    "cell_id": cell.cell_id,
                }
                file.write((",\n" if number > 1 else "\n") + _json(annotation))
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
        file.write(f'],\n"images": {_json(images)},\n"categories": {_json(categories)}}}\n')


def _write_geojson(store: Store, margin: float, output: Path) -> None:
    with new_folder(output) as folder:
        for image, path in _files(store, margin, folder, ".geojson"):
            features = [_feature(cell) for cell in image.cells]
            path.write_text(_json({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def _feature(cell: Detection) -> dict[str, Any]:
    """One cell as QuPath has it."""
    parts = polygons(cell.mask)
    one = len(parts) == 1
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon" if one else "MultiPolygon", "coordinates": parts[0] if one else parts},
        "properties": {
            "objectType": "detection",
            "name": cell.cell_id,
            "classification": {"name": cell.name},
            "measurements": {"score": cell.score},
        },
    }


def _write_yolo(store: Store, margin: float, output: Path) -> None:
    classes = _classes(store.table())
    with new_folder(output) as folder:
        for image, path in _files(store, margin, folder, ".txt", taken=["classes"]):
            lines = []
            for cell in image.cells:
                x0, y0, x1, y1 = cell.box.clip(0, [image.width, image.height] * 2).tolist()
                centre = ((x0 + x1) / 2 / image.width, (y0 + y1) / 2 / image.height)
                numbers = (*centre, (x1 - x0) / image.width, (y1 - y0) / image.height)
                lines.append(f"{classes.index(cell.name)} {' '.join(f'{number:.8f}' for number in numbers)}\n")
            path.write_text("".join(lines), encoding="utf-8")
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _write_labels(store: Store, margin: float, output: Path) -> None:
    with new_folder(output) as folder:
        for image, path in _files(store, margin, folder, ".png"):
            labels = np.zeros((image.height, image.width), np.uint16)
            for cell in image.cells:  # the best scored first
                number = int(cell.cell_id.rpartition("#")[2]) + 1
                if number > MOST_LABELS:
                    raise CellfeatError(f"image {image.image_id!r} has more cells than a 16-bit image has numbers")
                labels[cell.mask & (labels == 0)] = number
            Image.fromarray(labels).save(path, format="PNG")


DETECTIONS: dict[str, Callable[[Store, float, Path], None]] = {
    "coco": _write_coco,
    "geojson": _write_geojson,
    "yolo": _write_yolo,
    "labels": _write_labels,
}


def _files(
    store: Store, margin: float, folder: Path, suffix: str, taken: list[str] | None = None
) -> Iterator[tuple[DetectedImage, Path]]:
    """Each image and the file for it below `folder`.

    Raises:
        CellfeatError: Two images have one name but for the suffix, or a name that leads out of the folder.
    """
    owner = dict.fromkeys(taken or [], "a file of the format's own")
    for image in detected_images(store, margin):
        place = PurePosixPath(image.image_id)
        if place.is_absolute() or ".." in place.parts or "\\" in image.image_id or not place.name:
            raise CellfeatError(f"image {image.image_id!r} has a name that no file can have", "export to coco")
        stem = place.with_suffix("").as_posix()
        if stem in owner:
            raise CellfeatError(
                f"images {owner[stem]!r} and {image.image_id!r} would both be {stem}{suffix}",
                "export a subset, or to coco",
            )
        owner[stem] = image.image_id
        path = folder / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        yield image, path


class new_folder:
    """A folder that appears whole under its name when the block ends well, else not at all."""

    def __init__(self, output: Path) -> None:
        if output.is_symlink() or (output.exists() and not output.is_dir()):
            raise CellfeatError(f"{output}: is a file or a link", "choose another folder")
        if output.is_dir() and any(output.iterdir()):
            raise CellfeatError(f"{output}: not empty", "choose another folder")
        self._output, self._partial = output, output.with_name(f".{output.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._output.is_dir():
                self._output.rmdir()
            os.replace(self._partial, self._output)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
