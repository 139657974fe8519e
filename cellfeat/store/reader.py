"""Reading a feature store: one table of cells, and rows of the large arrays in any order."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import digest
from cellfeat.data.class_tree import ClassTree
from cellfeat.data.label_table import relabelled
from cellfeat.errors import CellfeatError
from cellfeat.store.classes import stored_classes
from cellfeat.store.fields import whole_images
from cellfeat.store.indexing import all_columns
from cellfeat.store.manifest import read_manifest
from cellfeat.store.schema import METADATA, all_elements, cell_elements, image_elements, metadata_element
from cellfeat.store.shards import Shards
from cellfeat.store.verify import problems


class Store:
    """A feature store, opened for reading.

    A store shows the shards that its manifest listed when it was opened. It may be pickled and used after a fork.

    Args:
        path: Folder of the store.

    Attributes:
        path: Folder of the store.
        manifest: The manifest as read.
        layout: Feature shape and dtype, crop size.
        shards: The shards' files.

    Raises:
        CellfeatError: The folder is not a store, or a newer major version of the format wrote it. The methods raise it
            for a shard that is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.shards = Shards(self.path, self.manifest, indexed=True)
        self.layout = self.shards.layout
        self._table: pd.DataFrame | None = None
        self._images: pd.DataFrame | None = None
        self._labels: Path | None = None

    def __len__(self) -> int:
        """Number of cells."""
        return self.shards.cells

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_table": None, "_images": None}

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} cells)"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one cell's feature."""
        return self.layout.feature_shape

    @property
    def provenance(self) -> dict[str, Any]:
        """What the rows depend on, as the writer was told."""
        return self.manifest["provenance"]

    @property
    def classes(self) -> ClassTree:
        """The classes of its labels: the 13, and what its datasets' tables say of classes of the project's own.

        Raises:
            CellfeatError: The manifest holds no such classes, or the stores that it was made of contradict each other.
        """
        return stored_classes(self.provenance, str(self.path))

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the provenance and the shards' digests: equal digests, equal content."""
        return digest([self.provenance, [shard["sha256"] for shard in self.manifest["shards"]]])

    def with_labels(self, path: str | Path) -> Store:
        """This store with the labels of a table in place of its own, where it names cells; nothing is written.

        Args:
            path: A table cell_id,label, as `cellfeat annotate` writes it; see `cellfeat.data.label_table`.

        Raises:
            CellfeatError: The table is missing or damaged, or is not of this store.
        """
        other = copy(self)
        other._labels, other._table = Path(path), None
        other._kept_table()  # what may be refused comes first
        return other

    def table(self) -> pd.DataFrame:
        """One row a cell in store order: cell_id, image_id, domain, label, score, x0, y0, x1, y1 (px, original image).

        Then the metadata columns of the cells' images, such as `group`, where the store has any: "" for images without.
        Read once, then kept; the caller gets a copy.
        """
        return self._kept_table().copy()

    def images(self) -> pd.DataFrame:
        """One row an image seen: image_id, domain, label, width, height (px), cells, reason ("" unless unreadable).

        A tile of a field or slide is an image: tile_of is the field's id ("" for whole images), tile_x and tile_y
        where it lies in it, px; see `cellfeat.store.fields`. Then the metadata columns, as in `table`. Read once, then
        kept; the caller gets a copy.
        """
        return self._kept_images().copy()

    @property
    def metadata(self) -> list[str]:
        """Names of the metadata columns, such as `group`."""
        known = {name for element in image_elements() for name in element.columns}
        return [str(name) for name in self._kept_images() if name not in known]

    def detection_rate(self) -> pd.DataFrame:
        """Per domain (the index): images (readable), with_cell, cells, unreadable, rate = with_cell / images.

        The tiles of a field are one image.
        """
        seen = whole_images(self._kept_images())
        readable = seen["reason"] == ""
        counts = pd.DataFrame(
            {"images": readable, "with_cell": seen["cells"] > 0, "cells": seen["cells"], "unreadable": ~readable}
        )
        rates = counts.groupby(seen["domain"]).sum().astype(int)
        rates["rate"] = rates["with_cell"] / rates["images"]
        return rates

    def select(
        self,
        domain: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        score: tuple[float, float] | float | None = None,
    ) -> np.ndarray:
        """Numbers of the rows that pass every filter given, ascending, for `read`.

        Args:
            domain: Name or names of sites.
            label: Class or classes; "" for unlabelled cells.
            score: Lowest score, or lowest and highest.

        Raises:
            CellfeatError: No cell has that domain or label.
        """
        table = self._kept_table()
        keep = np.ones(len(table), bool)
        for column, wanted in {"domain": domain, "label": label}.items():
            if wanted is None:
                continue
            names = [wanted] if isinstance(wanted, str) else list(wanted)
            if unknown := set(names) - set(table[column]):
                there = ", ".join(map(repr, sorted(set(table[column]))))
                raise CellfeatError(f"{self.path}: no cell has the {column} {min(unknown)!r}; there are {there}")
            keep &= table[column].isin(names).to_numpy()
        if score is not None:
            lowest, highest = (score, np.inf) if isinstance(score, (int, float)) else score
            keep &= table["score"].between(lowest, highest).to_numpy()
        return np.flatnonzero(keep)

    def read(self, name: str, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Read rows of one dataset.

        The rows are fetched in store order, by several threads, and come back in the order asked for.

        Args:
            name: "features" (n, C, H, W) float16 or float32, "crops" (n, S, S, 3) uint8 RGB, "masks" (n, S, S) uint8
                0/1, "boxes" (n, 4) float32 XYXY px of the original image, or "scores" (n,) float32.
            rows: A slice, or integers from 0 to len(store) - 1 in any order.

        Raises:
            CellfeatError: Unknown name, row outside the store, more than the free memory, shard missing or damaged.
        """
        elements = {element.name: element for element in cell_elements() if not element.is_text}
        if name not in elements:
            raise CellfeatError(f"{name!r}: no such dataset; read one of {', '.join(elements)}")
        return self.shards.read(elements[name], self._rows(rows))

    def verify(self, progress: bool = False) -> list[str]:
        """Read everything and list what is wrong with the store, one line a problem; an empty list is a sound store.

        Args:
            progress: Show a progress bar over the shards.
        """
        return [str(problem) for problem in problems(self.shards, progress)]

    def _kept_table(self) -> pd.DataFrame:
        if self._table is None:
            stored = _frame(all_columns(self.shards).cells)
            self._table = stored if self._labels is None else relabelled(stored, self._labels, self.classes)
        return self._table

    def _kept_images(self) -> pd.DataFrame:
        if self._images is None:
            self._images = _frame(all_columns(self.shards).images)
        return self._images

    def _rows(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        array = np.asarray(rows)
        if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
            raise CellfeatError(f"rows of shape {array.shape} and dtype {array.dtype}: give a slice or row numbers")
        outside = array[(array < 0) | (array >= len(self))]
        if outside.size:
            raise CellfeatError(f"{self.path}: row {outside[0]} is outside the store's 0 to {len(self) - 1}")
        return array.astype(np.int64)


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    """Columns of elements as a table, in the order of the schema, metadata at the end."""
    elements = {element.name: element for element in all_elements()}
    names = [name for name in elements if name in columns]
    names += [name for name in columns if name not in elements]
    series: dict[str, pd.Series] = {}
    for name in names:
        element = elements.get(name) or metadata_element(name.removeprefix(METADATA))
        for column, values in zip(element.columns, columns[name][:].reshape(-1, len(element.columns)).T):
            series[column] = pd.Series(values, dtype=str if element.is_text else values.dtype)
    return pd.DataFrame(series)
