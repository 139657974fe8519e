"""Whole slides, read a region at a time and never whole, through OpenSlide (the extra `slides`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from cellfeat.data.images import MAX_PIXELS, UnreadableImage, image_size, read_rgb
from cellfeat.data.urls import bring

SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"})
"""What is always read as a slide; TIFF files are where they have too many pixels for an image."""

TIFF = frozenset({".tif", ".tiff", ".btf"})
SMALLEST = 1_000_000  # bytes: a TIFF of more than MAX_PIXELS that shows something is larger
TO_MICRONS = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "": 1.0}  # of OME-XML; µm is its default
WIDTH, HEIGHT, DESCRIPTION = 256, 257, 270  # tags of TIFF
THUMBNAIL = 1024  # px, long edge of the picture in which stained regions are looked for


@dataclass(frozen=True)
class Slide:
    """An open slide.

    Attributes:
        path: The file.
        size: (height, width) of its finest level, px.
    """

    path: Path
    size: tuple[int, int]
    _handle: Any

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A region of the finest level, RGB uint8 (height, width, 3); what was not scanned is white.

        Raises:
            UnreadableImage: The file is damaged there.
        """
        with _readable(self.path):
            return _on_white(self._handle.read_region((x, y), 0, (width, height)))

    def thumbnail(self, side: int) -> np.ndarray:
        """All of it, RGB uint8, its long edge at most `side` px.

        Raises:
            UnreadableImage: The file is damaged.
        """
        with _readable(self.path):
            return np.asarray(self._handle.get_thumbnail((side, side)).convert("RGB"))

    def stained_region(self, side: int) -> np.ndarray:
        """The region of `side` px that is stained most, RGB uint8; of a smaller slide all.

        Raises:
            UnreadableImage: The file is damaged.
        """
        small = self.thumbnail(THUMBNAIL)
        factor = max(self.size) / max(small.shape[:2])
        stain = np.ptp(small.astype(np.float32), axis=2)
        window = max(1, min(round(side / factor), *small.shape[:2]))
        mean = cv2.boxFilter(stain, -1, (window, window), borderType=cv2.BORDER_REPLICATE)
        row, column = np.unravel_index(int(mean.argmax()), mean.shape)
        height, width = (min(side, length) for length in self.size)
        y, x = (
            int(np.clip(at * factor - length / 2, 0, whole - length))
            for at, length, whole in zip((row, column), (height, width), self.size, strict=True)
        )
        return self.read(x, y, width, height)


def is_slide(path: Path) -> bool:
    """Whether a file is read a region at a time, by its suffix or, of a TIFF file, by its size."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix not in TIFF or not path.is_file() or path.stat().st_size < SMALLEST:
        return False
    tags = _first_tags(path)
    return tags.get(WIDTH, 0) * tags.get(HEIGHT, 0) > MAX_PIXELS


@contextmanager
def open_slide(path: Path) -> Iterator[Slide]:
    """Open a slide.

    Raises:
        UnreadableImage: OpenSlide is not installed or does not know the format, or the file is missing or damaged.
    """
    try:
        import openslide
    except ImportError:
        raise UnreadableImage(path, "a whole slide, which needs pip install 'cellfeat[slides]'") from None
    if not path.is_file():
        raise UnreadableImage(path, "no such file")
    bring(path)
    with _readable(path):
        handle = openslide.OpenSlide(path)
    try:
        width, height = handle.dimensions
        yield Slide(path, (height, width), handle)
    finally:
        handle.close()


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) in px of an image or a slide, without decoding it.

    Raises:
        UnreadableImage: It is neither.
    """
    if not is_slide(path):
        return image_size(path)
    with open_slide(path) as slide:
        return slide.size


def read_picture(path: Path, bits: int | None = None) -> np.ndarray:
    """An image, or a slide that is no larger than images may be: RGB uint8 (h, w, 3).

    Raises:
        UnreadableImage: It is neither, or a larger slide.
    """
    if not is_slide(path):
        return read_rgb(path, bits=bits)
    with open_slide(path) as slide:
        height, width = slide.size
        if height * width > MAX_PIXELS:
            raise UnreadableImage(path, f"{width} x {height} px, more than {MAX_PIXELS:,}; it is read in tiles only")
        return slide.read(0, 0, width, height)


def file_scale(path: Path) -> float | None:
    """µm a pixel as a slide or an OME-TIFF file states it; None for other images, and where it does not."""
    ome = path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))
    if not ome and not is_slide(path):
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return _file_scale(path, ome, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _file_scale(path: Path, ome: bool, *_: int) -> float | None:
    """`file_scale` of one state of a file: listings ask for it often."""
    if path.suffix.lower() in TIFF and (scale := _ome_scale(str(_first_tags(path).get(DESCRIPTION, "")))):
        return scale
    if ome and not is_slide(path):
        return None
    try:
        with open_slide(path) as slide:
            sides = [slide._handle.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    except UnreadableImage:
        return None
    found = [_number(side) for side in sides if side]
    return sum(found) / len(found) if found and all(found) else None


def _ome_scale(description: str) -> float | None:
    description = description.encode("latin-1", "replace").decode(errors="replace")  # OME-XML is UTF-8, Pillow's not
    size = re.search(r'PhysicalSizeX="([^"]+)"', description)
    unit = re.search(r'PhysicalSizeXUnit="([^"]*)"', description)
    number, factor = _number(size[1]) if size else 0.0, TO_MICRONS.get(unit[1] if unit else "")
    return number * factor if number and factor else None


def _number(text: str) -> float:
    """A positive finite number, else 0."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0


def _first_tags(path: Path) -> dict[int, Any]:
    """The tags of the first picture of a TIFF or BigTIFF file; none where it cannot be read."""
    bring(path)
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            if head[2:3] == b"+" or head[3:4] == b"+":  # 43: BigTIFF
                head += file.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            return {tag: tags[tag] for tag in (WIDTH, HEIGHT, DESCRIPTION) if tag in tags}
    except Exception:  # no TIFF, or a damaged one: SyntaxError, struct.error, ...; who reads it says so
        return {}


def _on_white(image: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import openslide

    try:
        yield
    except openslide.OpenSlideUnsupportedFormatError:
        raise UnreadableImage(path, "no slide that OpenSlide reads; TIFF files must be tiled, not in strips") from None
    except (openslide.OpenSlideError, OSError) as error:
        words = " ".join(str(error).split()).replace(str(path), "file")
        raise UnreadableImage(path, f"damaged ({re.sub('[0-9]+', 'N', words)})") from None
