"""Mask images to COCO annotations: one class, one instance a connected component, run-length encoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from scipy import ndimage
from tqdm import tqdm

from cellfeat.data.images import UnreadableImage, image_size, read_grey
from cellfeat.errors import CellfeatError

CATEGORIES = [{"id": 1, "name": "WBC"}]
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class MaskItem:
    """An image and its mask.

    Attributes:
        image_id: What the COCO entry's `image_id` shall be.
        image: The image file; only its header is read.
        mask: The mask file, of the same size.
        file_name: What the COCO entry's `file_name` shall be; the image's path if empty.
        um_per_px: Micrometres a pixel, None if unknown.
    """

    image_id: str
    image: Path
    mask: Path
    file_name: str = ""
    um_per_px: float | None = None


def masks_to_coco(items: Iterable[MaskItem], threshold: int = 127, min_area: int = 100) -> dict[str, Any]:
    """Turn mask images into a class-agnostic COCO dictionary.

    A mask is read as grey values, so that binary masks, masks with levels for cytoplasm and nucleus, RGB masks and
    masks with smoothed (grey) edges are all cut by one threshold. Each 8-connected component of at least `min_area`
    pixels is one instance; touching cells therefore count as one. Masks are read one at a time.

    Args:
        items: Images and their masks.
        threshold: A pixel belongs to a cell if its grey value (0-255) is greater.
        min_area: Smallest component in px.

    Returns:
        {"images": [{id, image_id, file_name, height, width, um_per_px}], "annotations": [{id, image_id, category_id,
        bbox XYWH px, segmentation (compressed RLE, counts as str), area px, iscrowd 0}], "categories": [WBC]}.
        An image whose mask is empty stays, without annotations.

    Raises:
        CellfeatError: There are no items, an image or mask cannot be read or they differ in size (one message lists
            all such pairs), or no mask has any component.
    """
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    problems: list[str] = []
    brightest = 0
    for item in tqdm(items, desc="masks", unit="mask", delay=5):
        try:
            entry = image_entry(len(coco["images"]) + 1, item.image_id, item.image, item.file_name, item.um_per_px)
            grey = read_grey(item.mask)
        except UnreadableImage as error:
            problems.append(str(error))
            continue
        if grey.shape != (entry["height"], entry["width"]):
            problems.append(
                f"{item.mask}: {grey.shape[1]} x {grey.shape[0]} px, its image {entry['width']} x {entry['height']} px"
            )
            continue
        brightest = max(brightest, int(grey.max(initial=0)))
        coco["images"].append(entry)
        for instance in components(grey > threshold, min_area):
            coco["annotations"].append(annotation(len(coco["annotations"]) + 1, entry["id"], instance))

    if problems:
        raise CellfeatError(f"{len(problems)} masks cannot be used, mend or remove them: {'; '.join(problems)}")
    if not coco["images"]:
        raise CellfeatError("no masks to convert; check the folder and the name pattern of the masks")
    if not coco["annotations"]:
        raise CellfeatError(
            f"no component of {min_area} px or more in {len(coco['images'])} masks: the brightest pixel is "
            f"{brightest}, the threshold {threshold}; lower threshold or min_area"
        )
    return coco


def components(mask: np.ndarray, min_area: int = 1) -> list[np.ndarray]:
    """Split a mask into its 8-connected components.

    Args:
        mask: (h, w) bool.
        min_area: Smallest component in px.

    Returns:
        One (h, w) bool mask a component, in the order of their first pixel.
    """
    labels, count = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return [labels == index for index in range(1, count + 1) if areas[index] >= min_area]


def image_entry(
    number: int, image_id: str, path: Path, file_name: str = "", um_per_px: float | None = None
) -> dict[str, Any]:
    """The COCO entry of an image; its size comes from the file's header.

    Raises:
        UnreadableImage: The header cannot be read.
    """
    height, width = image_size(path)
    return {
        "id": number,
        "image_id": image_id,
        "file_name": file_name or str(path.absolute()),
        "height": height,
        "width": width,
        "um_per_px": um_per_px,
    }


def annotation(number: int, image_number: int, mask: np.ndarray) -> dict[str, Any]:
    """The COCO annotation of one instance.

    Args:
        number: The annotation's id.
        image_number: The image's id.
        mask: (h, w) bool, the instance in the image's frame.
    """
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image_number,
        "category_id": 1,
        "bbox": [float(value) for value in rle.toBbox(encoded)],
        "segmentation": {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")},
        "area": float(rle.area(encoded)),
        "iscrowd": 0,
    }


def box_annotation(number: int, image_number: int, box: tuple[float, float, float, float]) -> dict[str, Any]:
    """The COCO annotation of a box without a mask; `box` is XYXY in px."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return {
        "id": number,
        "image_id": image_number,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }
