"""Mask images to COCO annotations: one class, one instance a connected component or a label, run-length encoded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from cellfeat.core.progress import Progress
from cellfeat.data.annotations import Rle
from cellfeat.data.annotations.geometry import from_pixels, mask_area, mask_box
from cellfeat.data.images import UnreadableImage, image_size
from cellfeat.data.label_images import look_like_labels, read_mask, split_labels
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

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


def masks_to_coco(
    items: Iterable[MaskItem],
    threshold: int = 127,
    min_area: int = 100,
    kind: Literal["auto", "foreground", "labels"] = "auto",
) -> dict[str, Any]:
    """Turn mask images into a class-agnostic COCO dictionary. Masks are read one at a time.

    - `foreground`: a mask is read as grey values, so that binary masks, masks with levels for cytoplasm and nucleus,
      RGB masks and masks with smoothed (grey) edges are all cut by one threshold. Each 8-connected component is one
      instance; touching cells therefore count as one.
    - `labels`: each value but 0 is one instance (`cellfeat.data.label_images`).
    - `auto`: `labels` for masks of more than 8 bits that look like it, an error where 8 bits leave it open, else
      `foreground`.

    Args:
        items: Images and their masks.
        threshold: Of foreground: a pixel belongs to a cell if its grey value (0-255) is greater.
        min_area: Smallest instance in px; how many are smaller is logged.
        kind: What the masks are.

    Returns:
        {"images": [{id, image_id, file_name, height, width, um_per_px}], "annotations": [{id, image_id, category_id,
        bbox XYWH px, segmentation (compressed RLE, counts as str), area px, iscrowd 0}], "categories": [WBC]}.
        An image whose mask is empty stays, without annotations.

    Raises:
        CellfeatError: There are no items, an image or mask cannot be read, they differ in size, or a mask is not what
            `kind` says (one message lists all such pairs), or no mask has any instance.
    """
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    problems: list[str] = []
    small = 0
    for item in Progress(items, desc="masks", unit="mask", delay=5):
        try:
            entry = image_entry(len(coco["images"]) + 1, item.image_id, item.image, item.file_name, item.um_per_px)
            size = entry["height"], entry["width"]
            cells = _cells(item.mask, size, threshold, min_area, kind)
        except (UnreadableImage, UnusableMask) as error:
            problems.append(str(error))
            continue
        coco["images"].append(entry)
        for pixels in cells:
            if pixels.size < min_area:
                small += 1
                continue
            mask = from_pixels(pixels, size)
            coco["annotations"].append(annotation(len(coco["annotations"]) + 1, entry["id"], mask))

    if problems:
        raise CellfeatError(f"{len(problems)} masks cannot be used, correct or remove them: {'; '.join(problems)}")
    if not coco["images"]:
        raise CellfeatError("no masks to convert; check the folder and the name pattern of the masks")
    if not coco["annotations"]:
        raise CellfeatError(
            f"no cell of {min_area} px or more in {len(coco['images'])} masks, {small} are smaller; lower min_area"
        )
    if small:
        log.info("%d parts of masks have fewer than %d px (min_area) and are no cells", small, min_area)
    return coco


class UnusableMask(CellfeatError):
    """A mask that is not what the dataset says."""


def _cells(mask: Path, size: tuple[int, int], threshold: int, min_area: int, kind: str) -> list[np.ndarray]:
    """The pixels of each cell, as `split_labels` gives them."""
    read = read_mask(mask)
    values, found = read.values, read.size
    if found != size:
        raise UnusableMask(f"{mask}: {found[1]} x {found[0]} px, its image {size[1]} x {size[0]} px")
    which = "say masks.kind: labels or masks.kind: foreground"
    if kind == "auto":
        is_labels = values is not None and look_like_labels(values)
        if is_labels is None:
            assert values is not None
            raise UnusableMask(f"{mask}: its values 0 to {values.max()} may number cells or be levels of grey; {which}")
        if not is_labels and read.has_several_colours(min_area):
            raise UnusableMask(f"{mask}: has several colours, maybe one a cell; save numbers of cells, or {which}")
        kind = "labels" if is_labels else "foreground"
    if kind == "labels":
        if values is None:
            raise UnusableMask(f"{mask}: has colours, alpha or fractions; save labels in one channel of 8 or 16 bits")
        if values.min(initial=0) < 0:
            raise UnusableMask(f"{mask}: has the value {values.min()}; 0 is background, cells are numbered from 1 on")
        return split_labels(values)
    grey = read.grey()
    shown = grey if values is None else values
    if int(np.count_nonzero(shown)) >= min_area and grey.max(initial=0) <= threshold:
        raise UnusableMask(
            f"{mask}: its brightest pixel is {shown.max()}, grey {grey.max()} of 255, the threshold {threshold}; "
            "lower threshold, or say masks.kind: labels if its values number the cells"
        )
    return components(grey > threshold)


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The pixels of each 8-connected component of a mask (h, w) of bool, as `split_labels` gives them."""
    return split_labels(ndimage.label(mask, structure=EIGHT_NEIGHBOURS)[0])


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


def annotation(number: int, image_number: int, mask: Rle) -> dict[str, Any]:
    """The COCO annotation of one instance.

    Args:
        number: The annotation's id.
        image_number: The image's id.
        mask: The instance in the image's frame.
    """
    x0, y0, x1, y1 = mask_box(mask)
    return {
        "id": number,
        "image_id": image_number,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": mask,
        "area": mask_area(mask),
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
