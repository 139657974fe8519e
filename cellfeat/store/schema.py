"""What a feature store is made of: one table of its elements, the layout that fixes their shapes, the format version.

Shard builder, rows, reader, copying, diff, verify, inspect and the tables of docs/store-format.md follow the table, so
that one line in it makes a new column.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError, Damaged, NewerFormat

FORMAT = "cellfeat-store"
VERSION = "1.3"  # major: older readers must refuse; minor: something was added that older readers may ignore
MANIFEST = "manifest.json"
SHARDS = "shards"
SHARD_FILE = re.compile(rf"{SHARDS}/part-(\d{{5,}})\.h5")
IMAGES = "images/"  # elements below this group have one row an image, the others one row a cell
METADATA = "images/metadata/"  # texts of an image under names that its dataset chose

TEXT = "utf-8"
FEATURE = "float16 or float32"  # the dtype that the layout chooses


@dataclass(frozen=True)
class Element:
    """One dataset of a shard.

    Attributes:
        name: Path of the dataset in the shard.
        dtype: `TEXT`, `FEATURE` or numpy's name.
        meaning: For docs/store-format.md.
        shape: Of one row; the sizes C, H, W of a feature and S of a crop are the layout's.
        encoding: Name of how the values are coded; written on the dataset, as is its version.
        encoding_version: A change that older readers would misread raises the major version of this element alone.
        unit: For docs/store-format.md.
        bounds: Lowest and highest value; they need only be finite where None.
        columns: Names in `Store.table()` or `Store.images()`; none for the large arrays.
        default: Value of rows in shards that lack the element, and of cells that nobody gave one; None where every
            shard must have it.
    """

    name: str
    dtype: str
    meaning: str
    shape: tuple[str | int, ...] = ()
    encoding: str = "utf-8"
    encoding_version: str = "1.0"
    unit: str = ""
    bounds: tuple[float, float] | None = None
    columns: tuple[str, ...] = ()
    default: str | float | None = None

    @property
    def of_image(self) -> bool:
        """Whether it has one row an image; else one row a cell."""
        return self.name.startswith(IMAGES)

    @property
    def is_array(self) -> bool:
        """Whether it is one of the large arrays, of which a chunk is one cell."""
        return not self.columns

    @property
    def is_metadata(self) -> bool:
        """Whether it is a metadata column, which a shard has or has not."""
        return self.name.startswith(METADATA)

    @property
    def is_text(self) -> bool:
        return self.dtype == TEXT

    def rows(self, count: int) -> np.ndarray:
        """Rows of a small element that nobody gave a value: its default."""
        shape = tuple(size for size in self.shape if isinstance(size, int))
        return np.full((count, *shape), self.default, object if self.is_text else self.dtype)


# In the order of the columns of `Store.table()` and `Store.images()`.
ELEMENTS = (
    Element(
        "features",
        FEATURE,
        "pooled features; a vector has the shape (C, 1, 1)",
        ("C", "H", "W"),
        "feature-map",
        unit="the detector's activation, without unit",
    ),
    Element("crops", "uint8", "rows, columns, RGB", ("S", "S", 3), "rgb-crop", unit="0 to 255, sRGB as in the image"),
    Element("masks", "uint8", "1 on the cell, 0 elsewhere", ("S", "S"), "binary-mask", unit="0 or 1", bounds=(0, 1)),
    Element("cell_id", TEXT, "the image's id, `#`, and the cell's rank k in its image", columns=("cell_id",)),
    Element("image_id", TEXT, "the image that the cell lies in", columns=("image_id",)),
    Element("domain", TEXT, "name of the site", columns=("domain",)),
    Element("label", TEXT, "class in the vocabulary, empty where unknown", columns=("label",)),
    Element(
        "scores", "float32", "confidence of the detection", encoding="score", unit="usually 0 to 1", columns=("score",)
    ),
    Element(
        "boxes",
        "float32",
        "x0, y0, x1, y1",
        (4,),
        "xyxy-px",
        unit="px of the original image",
        columns=("x0", "y0", "x1", "y1"),
    ),
    Element(
        "detected_class",
        TEXT,
        "class that the detector predicts; empty where it finds cells of one class",
        columns=("detected_class",),
        default="",
    ),
    Element("images/image_id", TEXT, "unique in the store", columns=("image_id",)),
    Element("images/domain", TEXT, "name of the site", columns=("domain",)),
    Element("images/label", TEXT, "class of the image as a whole, empty where unknown", columns=("label",)),
    Element(
        "images/width",
        "int32",
        "width of the original image; 0 where it could not be read",
        encoding="px",
        unit="px of the original image",
        columns=("width",),
    ),
    Element(
        "images/height",
        "int32",
        "height of the original image; 0 where it could not be read",
        encoding="px",
        unit="px of the original image",
        columns=("height",),
    ),
    Element(
        "images/cells",
        "int32",
        "how many rows of this shard are its cells; 0 is a result, not an error",
        encoding="count",
        unit="cells",
        columns=("cells",),
    ),
    Element("images/reason", TEXT, "why the image could not be read; empty for a readable one", columns=("reason",)),
    Element(
        "images/tile_of",
        TEXT,
        "id of the field or slide that this image is a tile of; empty where it is a whole image",
        columns=("tile_of",),
        default="",
    ),
    Element(
        "images/tile_x",
        "int32",
        "left edge of the tile in the field or slide; 0 where it is a whole image",
        encoding="px",
        unit="px of the field or slide",
        columns=("tile_x",),
        default=0,
    ),
    Element(
        "images/tile_y",
        "int32",
        "top edge of the tile in the field or slide; 0 where it is a whole image",
        encoding="px",
        unit="px of the field or slide",
        columns=("tile_y",),
        default=0,
    ),
)


def element(name: str) -> Element:
    """The element of this name."""
    return next(element for element in ELEMENTS if element.name == name)


def all_elements() -> tuple[Element, ...]:
    """Every element of a shard."""
    return ELEMENTS


def cell_elements() -> list[Element]:
    """The elements that have one row a cell."""
    return [element for element in ELEMENTS if not element.of_image]


def image_elements() -> list[Element]:
    """The elements that have one row an image."""
    return [element for element in ELEMENTS if element.of_image]


def metadata_element(name: str) -> Element:
    """The element of a metadata column.

    Raises:
        CellfeatError: A store cannot have a column of this name.
    """
    if not is_text(name) or not name or name in (".", "..") or "/" in name:
        raise CellfeatError(f"metadata column {name!r}: no name that a column can have; leave out slashes")
    if name in {column for element in ELEMENTS for column in element.columns}:
        raise CellfeatError(f"metadata column {name!r}: a store has a column of this name already; choose another name")
    return Element(f"{METADATA}{name}", TEXT, "named by the dataset", columns=(name,), default="")


MATRIX_ELEMENTS = ("z", "probabilities", "classes")  # of embeddings and predictions files, besides cell_id

# What a hostile file may cost at most; a store that needs more is not of this format.
MAX_CELL_BYTES = 1 << 22  # of one cell in one array: 40 times a cell of 256 x 14 x 14 at float16
MAX_SHARD_ROWS = 1_000_000
MAX_SHARD_BYTES = 1 << 31  # viewers open files of less than 2 GB
MAX_METADATA = 64  # columns

BOX_TOLERANCE = 1.0  # px by which a box may pass the image's edge: rounding when boxes are scaled back

REPAIR = "restore it from a copy, or run `cellfeat verify --repair` and then the dump, which computes its cells again"


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

    def form(self, element: Element) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of one row of an element."""
        sizes = dict(zip("CHW", self.feature_shape)) | {"S": self.crop_size}
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in element.shape)
        return shape, self.feature_dtype if element.dtype == FEATURE else element.dtype

    @property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of one cell in each of the large arrays."""
        return {element.name: self.form(element) for element in ELEMENTS if element.is_array}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shard_file(number: int) -> str:
    """Path of shard `number` relative to the store."""
    return f"{SHARDS}/part-{number:05d}.h5"


def own_folder(folder: Path) -> Path:
    """A folder within a store, absent or real: a link would lead writers out of a stranger's store.

    Raises:
        CellfeatError: It is a link or a file.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise CellfeatError(f"{folder}: is a link or a file where a store has a folder", "put the folder itself there")
    return folder


def shard_number(file: str) -> int:
    """Number of the shard at `file`, which is relative to the store.

    Raises:
        CellfeatError: `file` is not the name of a shard.
    """
    match = SHARD_FILE.fullmatch(file)
    if not match:
        raise Damaged(f"{MANIFEST} lists {file!r}, which is no shard name ({shard_file(0)})", f"restore {MANIFEST}")
    return int(match[1])


def check_format(where: str | Path, found: Any, version: Any, expected: str, supported: str) -> None:
    """Refuse a file that is something else, or that a newer major version of the format wrote.

    Raises:
        NewerFormat: The version's major number is above that of `supported`.
        CellfeatError: It is something else.
    """
    if found != expected:
        raise CellfeatError(f"{where}: not a {expected} file (its format is {found!r}); give one that cellfeat wrote")
    match = re.fullmatch(r"(\d+)\.(\d+)", str(version))
    if not match:
        raise Damaged(f"{where}: format version {version!r} is not major.minor", "restore the file from a copy")
    if int(match[1]) > int(supported.split(".")[0]):
        raise NewerFormat(
            f"{where}: written in {expected} {version}, this cellfeat reads up to {supported.split('.')[0]}.x",
            "update cellfeat",
        )


def box_fits(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Which boxes (n, 4), XYXY px, are finite, not inverted, and within images of `width` x `height` px, both (n,)."""
    x0, y0, x1, y1 = boxes.T
    ordered = (x0 <= x1) & (y0 <= y1)  # False where NaN
    inside = (np.minimum(x0, y0) >= -BOX_TOLERANCE) & (x1 <= width + BOX_TOLERANCE) & (y1 <= height + BOX_TOLERANCE)
    return ordered & inside


def finite(features: np.ndarray) -> np.ndarray:
    """Which values are finite. Float16 is judged by its bits; numpy would widen each value, seven times as slow."""
    if features.dtype != np.float16:
        return np.isfinite(features)
    return features.view(np.uint16) & np.uint16(0x7FFF) < 0x7C00


def is_text(value: Any) -> bool:
    """Whether a value is a text that HDF5 can hold: valid Unicode without NUL."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
