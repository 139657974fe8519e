"""Read any image file as 8-bit RGB, or say in one line why it cannot be read."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from cellfeat.data.urls import LIMIT, bring, is_pending
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # not EPS and others for which Pillow starts programs
MAX_PIXELS = (
    64_000_000  # decoding a JPEG took 10 bytes a pixel, hence 0.6 GB; cameras on microscopes have 2 to 25 million
)
BLANK_PIXELS, BLANK_RATIO = 16_000_000, 200  # from so many pixels on, as many pixels a byte are no photograph: in JPEG
# even one grey takes a byte for 85 pixels, in PNG a byte for 340
SCAN, MAX_SCANS = b"\xff\xda", 100  # JPEG's marker of a scan; libjpeg decodes a tiny file of thousands for minutes
PLANAR = 284  # TIFF's tag PlanarConfiguration
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
DEPTHS = (8, 12, 16)  # bits of cameras whose values are saved in 16 bits

# Pillow turns TIFF files by their tag when it loads them, other formats not; this turns them back.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# Descriptions of TIFF stacks by ImageJ and OME: their pages are no colours.
STACK = re.compile(r'\b(?:slices=|frames=|SizeZ="|SizeT=")(?:[2-9]|\d\d)')


class UnreadableImage(CellfeatError):
    """An image that cannot be used.

    Attributes:
        path: The file.
        reason: Why, without the path: what a feature store lists beside the image.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple:  # exceptions cross process borders by their arguments
        return type(self), (self.path, self.reason)


def read_rgb(path: str | Path, max_pixels: int = MAX_PIXELS, bits: int | None = None) -> np.ndarray:
    """Read an image as 8-bit RGB.

    Grey levels are repeated in three channels, palettes and CMYK are converted, transparency is laid on white; an alpha
    channel of one value everywhere holds nothing and is left out. Values of 16 bits are divided by 256, where all of
    them are below 4,096 by 16 (12 bits in 16), and below 256 they are kept (8 bits in 16). Three grey pages of one TIFF
    are red, green and blue, unless it calls them slices or frames; otherwise the first of several pages is read.

    The orientation that EXIF or TIFF state is ignored: the array is the stored raster. A cell has no upright position,
    and masks and boxes are given in the stored raster too.

    Args:
        path: PNG, JPEG, TIFF, BMP or WebP, whatever the suffix.
        max_pixels: A larger image is refused from its header, before it is decoded. Pillow's own limit of 179 million
            pixels (`PIL.Image.MAX_IMAGE_PIXELS`) holds besides.
        bits: How many bits of the camera the values of a file of 16 bits hold; None: by their largest, as above.

    Returns:
        (h, w, 3) uint8, RGB.

    Raises:
        UnreadableImage: The file is missing, empty, truncated, no image, too large, or its pixels have no 8-bit
            meaning (floating point, 32-bit integers beyond 65535, values beyond `bits`).
    """
    with open_image(path, max_pixels) as image:
        pixels, size = image.width * image.height, Path(path).stat().st_size
        if pixels >= BLANK_PIXELS and pixels > BLANK_RATIO * size:
            raise UnreadableImage(path, f"more than {BLANK_RATIO} pixels a byte, an empty picture")
        _check_scans(image, path)
        if _is_deep_colour(image):
            return np.asarray(_on_white(_deep_colour(path, bits)))
        orientation, pages = orientation_of(image), _pages(image)
        if len(pages) == 3:
            colours = np.dstack([np.asarray(page) for page in pages])
            colours = colours if colours.dtype == np.uint8 else _scaled(colours, path, bits)
            return np.asarray(_as_stored(Image.fromarray(colours), image.format, orientation))
        return np.asarray(_as_stored(_on_white(_eight_bit(image, bits)), image.format, orientation))


def read_grey(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as 8-bit luminance, transparency ignored: what a mask file means.

    Returns:
        (h, w) uint8, the stored raster of the first page.

    Raises:
        UnreadableImage: As `read_rgb`.
    """
    with open_image(path, max_pixels) as image:
        _check_scans(image, path)
        orientation = orientation_of(image)
        return np.asarray(_as_stored(luminance(image), image.format, orientation))


def luminance(image: Image.Image) -> Image.Image:
    """An open picture as 8-bit grey, transparency ignored."""
    return image if image.mode == "L" else _eight_bit(image).convert("RGB").convert("L")


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) in px of the stored raster, from the header alone.

    Raises:
        UnreadableImage: The file is missing, empty or no image.
    """
    with open_image(path) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # from 11 on Pillow's size is that of the turned picture
            return image.tag_v2[TiffImagePlugin.IMAGELENGTH], image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
        return image.height, image.width


def image_orientation(path: str | Path) -> int:
    """The orientation that the file states, 1 (as stored) to 8; viewers and label tools show the picture so turned.

    Raises:
        UnreadableImage: The file is missing, empty or no image.
    """
    with open_image(path) as image:
        return orientation_of(image)


def orientation_of(image: Image.Image) -> int:
    """The orientation of an open image that is not loaded yet, 1 to 8."""
    if image.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & image.info.keys():
        return 1  # getexif would decode the whole picture to look behind it
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in STORED else 1


@contextmanager
def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image lazily; whatever Pillow raises, then or while decoding in the block, becomes `UnreadableImage`."""
    bring(path)
    try:
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):  # a pipe would be waited for
            raise UnreadableImage(path, "a pipe or a device, not an image file")
        with Image.open(path, "r", FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableImage(
                    path, f"{image.width} x {image.height} px, more than {max_pixels:,}; tile it first"
                )
            if _is_deep(image) and getattr(image, "tag_v2", {}).get(PLANAR) == 2:  # Pillow and OpenCV misread it
                raise UnreadableImage(path, "16 bits in separate planes; save it with the colours of a pixel together")
            yield image
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except IsADirectoryError:
        raise UnreadableImage(path, "a folder, not an image file") from None
    except PermissionError:
        raise UnreadableImage(path, "no permission to read it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(path, "more pixels than Pillow opens; tile it first") from None
    except UnidentifiedImageError:
        if is_pending(Path(path)):
            raise CellfeatError(
                f"{path}: another process made room for its own images", f"run again, with more {LIMIT}"
            ) from None
        empty = Path(path).stat().st_size == 0
        raise UnreadableImage(path, "empty file" if empty else "not an image file that is read") from None
    except Exception as error:  # decoders meet damaged bytes with OSError, SyntaxError, ValueError, struct.error, ...
        raise UnreadableImage(path, _damage(error, path)) from None


def _check_scans(image: Image.Image, path: str | Path) -> None:
    """Refuse a progressive JPEG that goes over its pixels again and again; Pillow's own files have 10 scans."""
    if image.info.get("progressive") and Path(path).read_bytes().count(SCAN) > MAX_SCANS:
        raise UnreadableImage(path, f"a JPEG of more than {MAX_SCANS} scans, no picture of a camera")


def _damage(error: Exception, path: str | Path) -> str:
    """Why a file cannot be decoded, in the same words for every file, so that reasons can be counted."""
    words = " ".join(str(error).split()).replace(str(path), "file") or type(error).__name__
    return "truncated" if "truncated" in words else f"damaged ({re.sub(r'[0-9]+', 'N', words)})"


def _pages(image: Image.Image) -> list[Image.Image]:
    """The pages that make up the picture: three grey ones, or the first alone."""
    pages = []
    if image.format == "TIFF":
        description = str(getattr(image, "tag_v2", {}).get(270, ""))
        try:
            for number in range(4):
                image.seek(number)
                pages.append(image.copy() if number < 3 else image)
        except EOFError:
            pass
        image.seek(0)
        alike = all((page.mode, page.size) == (pages[0].mode, pages[0].size) for page in pages)
        grey = alike and pages[0].mode in ("L", *SIXTEEN_BIT)
        if len(pages) == 3 and grey and not STACK.search(description):
            _say("pictures of three grey pages are read as red, green and blue")
            return pages
        if len(pages) > 1:
            _say("of pictures of several pages the first page is read")
    return [image]


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether it has 16 bits a colour; Pillow reads the high byte alone."""
    return image.mode in ("RGB", "RGBA", "LA") and (_is_deep(image) or ";16" in str(getattr(image, "tile", "")))


def _is_deep(image: Image.Image) -> bool:
    """Whether a TIFF file states 16 bits for each of several colours."""
    return getattr(image, "tag_v2", {}).get(258, ())[:2] == (16, 16)


def _deep_colour(path: str | Path, bits: int | None) -> Image.Image:
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # ignores the orientation
    if values is None or values.dtype != np.uint16:
        raise UnreadableImage(path, "damaged (16 bits a colour)")
    bands = _scaled(values, path, bits)
    if bands.ndim == 3:
        bands = cv2.cvtColor(bands, cv2.COLOR_BGRA2RGBA if bands.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return Image.fromarray(bands)


def _eight_bit(image: Image.Image, bits: int | None = None) -> Image.Image:
    """The same picture with 8 bits a channel."""
    if image.mode in SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise UnreadableImage(_name(image), "integers beyond 16 bits; save it with 8 or 16 bits a channel")
        return Image.fromarray(_scaled(values, _name(image), bits))
    if image.mode == "F":
        raise UnreadableImage(_name(image), "floating-point pixels; save it with 8 or 16 bits a channel")
    return image


def _scaled(values: np.ndarray, path: str | Path, bits: int | None) -> np.ndarray:
    """Values of up to 16 bits as uint8. A smear's background is bright, so that the largest value tells the depth."""
    largest = values.max(initial=0)
    if bits is None:
        bits = next(bits for bits in DEPTHS if largest < 1 << bits)
        if bits < 16:
            _say(
                f"pictures of {bits} bits in 16 are read as such: values are divided by {1 << bits - 8}; "
                "where the camera has 10 or 14 bits, say so by the key bits of the dataset.yaml"
            )
    if largest >= 1 << bits:
        raise UnreadableImage(path, "values beyond the bits that the dataset.yaml states")
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    """An RGB picture; transparent pixels become white, like the bare glass of a slide.

    Where alpha is the same everywhere it was never meant (Photoshop's BMP, cleared channels, 1 for opaque): the colours
    count.
    """
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    extrema: Any = rgba.getchannel("A").getextrema()  # of one channel
    low, high = extrema
    if low == high:
        if high < 255:
            _say("an alpha channel of one value below 255 everywhere is left out, the colours count")
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _as_stored(image: Image.Image, file_format: str | None, orientation: int) -> Image.Image:
    """The stored raster of a loaded picture."""
    return image.transpose(STORED[orientation]) if file_format == "TIFF" and orientation > 1 else image


def _name(image: Image.Image) -> str:
    return str(getattr(image, "filename", ""))


@cache
def _say(text: str) -> None:
    """Say once how pictures of a kind are read."""
    log.warning(text)
