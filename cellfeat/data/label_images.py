"""Label images: every pixel holds the number of its cell, 0 is background (cellpose, StarDist, ImageJ, QuPath)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cellfeat.core.pickle_file import read_pickle
from cellfeat.data.images import UnreadableImage, luminance, open_image, orientation_of
from cellfeat.errors import CellfeatError

GREY = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes with one whole number a pixel; a palette's numbers are the labels, not its colours."""
CELLPOSE = ".npy"


@dataclass(frozen=True)
class MaskFile:
    """What a mask file holds, decoded once.

    Attributes:
        path: The file.
        values: Its values as stored, (h, w) of whole numbers; None for an image with colours, alpha or fractions.
        picture: The image, loaded; None for an array.
    """

    path: Path
    values: np.ndarray | None
    picture: Image.Image | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        if self.values is not None:
            return self.values.shape[0], self.values.shape[1]
        assert self.picture is not None
        return self.picture.height, self.picture.width

    def grey(self) -> np.ndarray:
        """Its luminance, (h, w) uint8.

        Raises:
            UnreadableImage: It is an array, or its pixels have no meaning in 8 bits.
        """
        if self.picture is None:
            raise UnreadableImage(self.path, "an array, not an image; say masks.kind: labels")
        return np.asarray(luminance(self.picture))

    def has_several_colours(self, min_area: int) -> bool:
        """Whether it has two colours or more, each on `min_area` px: a colour a cell, or a class.

        Greys are no colours. Shades of one colour that differ by less than 64 of 255 are one, as smoothed edges are.
        """
        if self.picture is None or (self.picture.mode in GREY and self.picture.mode != "P"):
            return False
        red, green, blue = (np.asarray(channel) for channel in self.picture.convert("RGB").split())
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        shades = (red // 64 * 16 + green // 64 * 4 + blue // 64)[spread >= 64]
        return int((np.bincount(shades) >= min_area).sum()) > 1


def read_mask(path: Path) -> MaskFile:
    """Read a mask file.

    Of a .npy file, cellpose's `_seg.npy` with the key `masks` or a plain array, the array; nothing in it is executed.

    Raises:
        UnreadableImage: The file cannot be read, or holds no such array.
    """
    if path.suffix.lower() == CELLPOSE:
        try:
            content: Any = read_pickle(path)
        except CellfeatError as error:
            raise UnreadableImage(path, error.what.removeprefix(f"{path}: ")) from None
        array = content.get("masks") if isinstance(content, dict) else content
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "biu":
            raise UnreadableImage(path, "holds no array of whole numbers with two dimensions (cellpose: the key masks)")
        return MaskFile(path, array, None)
    with open_image(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UnreadableImage(path, f"{image.n_frames} pages, a mask has one; save them as files")  # type: ignore[attr-defined]
        if image.format == "TIFF" and orientation_of(image) != 1:  # Pillow turns it while it decodes
            raise UnreadableImage(path, "turned by its orientation tag; save it without")
        image.load()
        return MaskFile(path, np.asarray(image) if image.mode in GREY else None, image)


def look_like_labels(values: np.ndarray) -> bool | None:
    """Whether the values of a mask are numbers of cells rather than grey levels.

    Numbers of cells begin low and have few gaps, and no tool writes such levels with more than 8 bits. With 8 bits,
    levels such as 1 for cytoplasm and 2 for the nucleus look the same. Several values of 16 bits that do not reach the
    top of the scale may be either, too.

    Returns:
        True or False, None where both are possible.
    """
    small = values.dtype.itemsize <= 2 and values.dtype.kind in "bu"
    found = np.flatnonzero(np.bincount(values.ravel())) if small else np.unique(values)  # counting beats sorting
    found = found[found != 0]
    if found.size == 0 or found[0] < 0:
        return False
    deep, top = values.dtype.itemsize > 1, found[-1]
    if top <= 4 * found.size:  # at most three of four numbers are missing
        return True if deep else False if found.size == 1 or top == 255 else None
    return None if deep and found.size > 1 and top < 65535 else False


def split_labels(labels: np.ndarray) -> list[np.ndarray]:
    """The pixels of each label but 0, by ascending label, as indices into the column-major image, ascending."""
    flat = labels.ravel(order="F")
    pixels = np.flatnonzero(flat)
    pixels = pixels[np.argsort(flat[pixels], kind="stable")]
    edges = np.flatnonzero(np.diff(flat[pixels])) + 1
    return [part for part in np.split(pixels, edges) if part.size]
