"""What a feature store is made of: names, shapes, dtypes, the format version, and how its files are opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.files import read_json

FORMAT = "cellfeat-store"
VERSION = "1.0"  # major: older readers must refuse; minor: something was added that older readers may ignore
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

BOX_TOLERANCE = 1.0  # px by which a box may pass the image's edge: rounding when boxes are scaled back

REPAIR = (
    f"restore it from a copy, or take its entry out of {MANIFEST} and run the dump again, which makes its cells anew"
)


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
        if len(self.feature_shape) != 3 or min(self.feature_shape) < 1:
            raise CellfeatError(f"feature_shape {self.feature_shape}: give three positive sizes (C, H, W)")
        if self.feature_dtype not in ("float16", "float32"):
            raise CellfeatError(f"feature_dtype {self.feature_dtype!r}: choose float16 or float32")
        if self.crop_size < 1:
            raise CellfeatError(f"crop_size {self.crop_size}: give a positive number of pixels")

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


def read_manifest(store: Path) -> dict[str, Any]:
    """Read and check the manifest of the store in folder `store`.

    Raises:
        CellfeatError: The folder is not a store, or its manifest is missing, broken or of a newer major version.
    """
    path = store / MANIFEST
    if not store.is_dir():
        what = "is a file" if store.exists() else "does not exist"
        raise CellfeatError(f"{store}: {what}; give the folder of a feature store (the one that holds {MANIFEST})")
    if not path.exists():
        if (store / SHARDS).is_dir():
            raise CellfeatError(f"{store}: {MANIFEST} is missing; restore it from a copy or dump into another folder")
        raise CellfeatError(f"{store}: not a feature store (no {MANIFEST}); give the folder that the dump wrote")
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise CellfeatError(f"{path}: not a manifest (no JSON object); restore it from a copy")
    check_format(path, manifest.get("format"), manifest.get("version"), FORMAT, VERSION)
    for key in ("feature_shape", "feature_dtype", "crop_size", "provenance", "shards"):
        if key not in manifest:
            raise CellfeatError(f"{path}: lacks {key!r}; restore it from a copy")
    for shard in manifest["shards"]:
        shard_number(shard["file"])
    return manifest


def open_shard(path: Path) -> h5py.File:
    """Open a shard for reading.

    Shards never change, so they are opened without HDF5's file locks (which fail on some network file systems); a
    chunk is one cell and is read whole, so no chunk cache is held.

    Raises:
        CellfeatError: The file is missing, damaged, of a newer major version, or lacks a dataset.
    """
    if not path.exists():
        raise CellfeatError(f"{path}: listed in {MANIFEST} but missing; {REPAIR}")
    try:
        handle = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise CellfeatError(f"{path}: truncated or damaged ({one_line(error)}); {REPAIR}") from None
    check_format(path, handle.attrs.get("format"), handle.attrs.get("version"), FORMAT, VERSION)
    for name in ("features", "crops", "masks", *CELL_COLUMNS, *(f"images/{column}" for column in IMAGE_COLUMNS)):
        if name not in handle:
            raise CellfeatError(f"{path}: lacks the dataset {name!r}; {REPAIR}")
    return handle


def box_fits(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), XYXY px, are finite, not inverted, and within images of `width` x `height` px, both (n,)."""
    x0, y0, x1, y1 = boxes.T
    ordered = (x0 <= x1) & (y0 <= y1)  # False where NaN
    inside = (np.minimum(x0, y0) >= -BOX_TOLERANCE) & (x1 <= width + BOX_TOLERANCE) & (y1 <= height + BOX_TOLERANCE)
    return ordered & inside


def one_line(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())
