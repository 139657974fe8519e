"""Read any image file as 8-bit RGB, or say in one line why it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cellfeat.errors import CellfeatError

MAX_PIXELS = 100_000_000
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


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


def read_rgb(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as 8-bit RGB.

    Grey levels are repeated in three channels, palettes and CMYK are converted, transparency is laid on white. Of
    16-bit pixels the high byte is kept (value // 256), the same rule for every image, so that intensities stay
    comparable between images. Of a file with several pages the first is read.

    The EXIF orientation is ignored: the array is the stored raster. A cell has no upright position, and masks and
    boxes are given in the stored raster too.

    Args:
        path: Any format that Pillow reads: TIFF, PNG, JPEG, BMP and others.
        max_pixels: A larger image is refused from its header, before it is decoded. Pillow's own limit of 179 million
            pixels (`PIL.Image.MAX_IMAGE_PIXELS`) holds besides.

    Returns:
        (h, w, 3) uint8, RGB.

    Raises:
        UnreadableImage: The file is missing, empty, truncated, no image, too large, or its pixels have no 8-bit
            meaning (floating point, 32-bit integers beyond 65535).
    """
    with open_image(path, max_pixels) as image:
        return np.asarray(_on_white(_eight_bit(image)))


def read_grey(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as 8-bit luminance, transparency ignored: what a mask file means.

    Returns:
        (h, w) uint8.

    Raises:
        UnreadableImage: As `read_rgb`.
    """
    with open_image(path, max_pixels) as image:
        return np.asarray(_eight_bit(image).convert("RGB").convert("L"))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) in px of the stored raster, from the header alone.

    Raises:
        UnreadableImage: The file is missing, empty or no image.
    """
    with open_image(path) as image:
        return image.height, image.width


@contextmanager
def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image lazily; whatever Pillow raises, then or while decoding in the block, becomes `UnreadableImage`."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableImage(
                    path, f"{image.width} x {image.height} px, more than {max_pixels:,}; tile it first"
                )
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
        empty = Path(path).stat().st_size == 0
        raise UnreadableImage(path, "empty file" if empty else "not an image file") from None
    except Exception as error:  # decoders meet damaged bytes with OSError, SyntaxError, ValueError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(path, f"damaged or truncated ({reason})") from None


def _eight_bit(image: Image.Image) -> Image.Image:
    """The same picture with 8 bits a channel."""
    if image.mode in SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise UnreadableImage(image.filename, "integers beyond 16 bits; save it with 8 or 16 bits a channel")  # type: ignore[attr-defined]
        return Image.fromarray((values // 256).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImage(image.filename, "floating-point pixels; save it with 8 or 16 bits a channel")  # type: ignore[attr-defined]
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """An RGB picture; transparent pixels become white, like the bare glass of a slide."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
