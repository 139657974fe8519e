"""What a feature store is made of: names, shapes, dtypes, encodings and the format version."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError

FORMAT = "cellfeat-store"
VERSION = "1.1"  # major: older readers must refuse; minor: something was added that older readers may ignore
MANIFEST = "manifest.json"
SHARDS = "shards"
SHARD_FILE = re.compile(rf"{SHARDS}/part-(\d{{5,}})\.h5")

# The datasets of a shard besides the three arrays that `Layout.arrays` names. One row a cell, then one row an image.
CELL_COLUMNS = {
    "boxes": "float32",
    "scores": "float32",
    "cell_id": "utf-8",
    "image_id": "utf-8",
    "domain": "utf-8",
    "label": "utf-8",
}
IMAGE_COLUMNS = {
    "image_id": "utf-8",
    "domain": "utf-8",
    "label": "utf-8",
    "width": "int32",
    "height": "int32",
    "cells": "int32",
    "reason": "utf-8",
}

# How each element is to be understood: encoding and its version, written on the dataset as attributes. A change that
# older readers would misread raises that element's major version alone.
ENCODINGS = {
    "features": ("feature-map", "1.0"),
    "crops": ("rgb-crop", "1.0"),
    "masks": ("binary-mask", "1.0"),
    "boxes": ("xyxy-px", "1.0"),
    "scores": ("score", "1.0"),
    "width": ("px", "1.0"),
    "height": ("px", "1.0"),
    "cells": ("count", "1.0"),
}
TEXT_ENCODING = ("utf-8", "1.0")

# What a hostile file may cost at most; a store that needs more is not of this format.
MAX_CELL_BYTES = 1 << 22  # of one cell in one array: 40 times a cell of 256 x 14 x 14 at float16
MAX_SHARD_ROWS = 1_000_000
MAX_SHARD_BYTES = 1 << 31  # viewers open files of less than 2 GB

BOX_TOLERANCE = 1.0  # px by which a box may pass the image's edge: rounding when boxes are scaled back

REPAIR = "restore it from a copy, or run `cellfeat verify --repair` and the dump again, which makes its cells anew"


@dataclass(frozen=True)
class Layout:
    """The choices that fix every array of a store.

    Attributes:
        feature_shape: (C, H, W).
        feature_dtype: "float16" or "float32".
        crop_size: S, the side of crops and masks in px.
    """

    feature_shape: tuple[int, ...]
    feature_dtype: str
    crop_size: int

    def __post_init__(self) -> None:
        if len(self.feature_shape) != 3 or not all(_is_count(size) and size for size in self.feature_shape):
            raise CellfeatError(f"feature_shape {self.feature_shape}: give three positive sizes (C, H, W)")
        if self.feature_dtype not in ("float16", "float32"):
            raise CellfeatError(f"feature_dtype {self.feature_dtype!r}: choose float16 or float32")
        if not _is_count(self.crop_size) or not self.crop_size:
            raise CellfeatError(f"crop_size {self.crop_size}: give a positive number of pixels")
        for name, (shape, dtype) in self.arrays.items():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            if size > MAX_CELL_BYTES:
                raise CellfeatError(
                    f"{name} of {shape} {dtype} take {size} bytes a cell, a store takes {MAX_CELL_BYTES}; choose less"
                )

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Layout:
        """The layout that a manifest states."""
        return cls(tuple(manifest["feature_shape"]), manifest["feature_dtype"], manifest["crop_size"])

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of one cell in each of the large datasets (one chunk a cell)."""
        side = self.crop_size
        return {
            "features": (self.feature_shape, self.feature_dtype),
            "crops": ((side, side, 3), "uint8"),
            "masks": ((side, side), "uint8"),
        }

    def elements(self, cells: int, images: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of every dataset of a shard of so many cells and images."""
        return {
            **{name: ((cells, *shape), dtype) for name, (shape, dtype) in self.arrays.items()},
            **{name: ((cells, 4) if name == "boxes" else (cells,), dtype) for name, dtype in CELL_COLUMNS.items()},
            **{f"images/{name}": ((images,), dtype) for name, dtype in IMAGE_COLUMNS.items()},
        }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shard_file(number: int) -> str:
    """Path of shard `number` relative to the store."""
    return f"{SHARDS}/part-{number:05d}.h5"


def shard_number(file: str) -> int:
    """Number of the shard at `file`, which is relative to the store.

    Raises:
        CellfeatError: `file` is not the name of a shard.
    """
    match = SHARD_FILE.fullmatch(file)
    if not match:
        raise CellfeatError(f"{MANIFEST} lists {file!r}, which is no shard name ({shard_file(0)}); restore {MANIFEST}")
    return int(match[1])


def check_format(where: str | Path, found: Any, version: Any, expected: str, supported: str) -> None:
    """Refuse a file that is something else, or that a newer major version of the format wrote.

    Raises:
        CellfeatError: With what to do about it.
    """
    if found != expected:
        raise CellfeatError(f"{where}: not a {expected} file (its format is {found!r}); give one that cellfeat wrote")
    match = re.fullmatch(r"(\d+)\.(\d+)", str(version))
    if not match:
        raise CellfeatError(f"{where}: format version {version!r} is not major.minor; restore the file from a copy")
    if int(match[1]) > int(supported.split(".")[0]):
        raise CellfeatError(
            f"{where}: written in {expected} {version}, this cellfeat reads up to {supported.split('.')[0]}.x; "
            "update cellfeat"
        )


def box_fits(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), XYXY px, are finite, not inverted, and within images of `width` x `height` px, both (n,)."""
    x0, y0, x1, y1 = boxes.T
    ordered = (x0 <= x1) & (y0 <= y1)  # False where NaN
    inside = (np.minimum(x0, y0) >= -BOX_TOLERANCE) & (x1 <= width + BOX_TOLERANCE) & (y1 <= height + BOX_TOLERANCE)
    return ordered & inside


def finite(features: np.ndarray) -> np.ndarray:
    """Which values are finite. Of float16 the bits tell: numpy would widen every value first, seven times as slow."""
    if features.dtype != np.float16:
        return np.isfinite(features)
    return features.view(np.uint16) & np.uint16(0x7FFF) < 0x7C00


def one_line(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())
