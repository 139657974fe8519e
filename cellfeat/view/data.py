"""What the page shows of a store: columns, maps, and everything about one cell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.run import read_all
from cellfeat.evaluation.table import align
from cellfeat.reporting.palette import CLASSES, method_name
from cellfeat.store import Store, read_predictions
from cellfeat.store.cell_matrix import CellMatrix
from cellfeat.view import columns as make
from cellfeat.view.maps import Map, in_square, map_of

NEIGHBOURS = 6  # within the laboratory, and as many across
MAX_OF_IMAGE = 500  # boxes of one image on a card
OUTLINE = np.array([255, 221, 0], np.uint8)  # yellow: rare in a stained smear


class Cells:
    """A store, its embeddings and its predictions, as the page asks for them. Nothing here is changed later.

    Args:
        store: The store.
        embeddings: Embeddings files, each of another method.
        predictions: Predictions files.

    Attributes:
        table: `Store.table()`.
        columns: What cells can be coloured and filtered by.
        maps: One for each embeddings file; without any, the cells by size and score.

    Raises:
        CellfeatError: The store is empty, or a file belongs to another store.
    """

    def __init__(self, store: Store, embeddings: Sequence[Path] = (), predictions: Sequence[Path] = ()) -> None:
        if not len(store):
            raise CellfeatError(f"{store.path}: holds no cell", "give a store with cells")
        self.store, self.table = store, store.table()
        self._cell_id = self.table["cell_id"].to_numpy(str)
        self._domain = self.table["domain"].to_numpy(str)
        self._image = self.table["image_id"].to_numpy(str)
        self._box = self.table[["x0", "y0", "x1", "y1"]].to_numpy(np.float32)
        self._size = {image: (w, h) for image, w, h in store.images()[["image_id", "width", "height"]].to_numpy()}
        read = read_all(store, embeddings) if embeddings else []
        self._z = [align(one, self.table) for one in read]
        self.maps = [
            map_of(Path(path), str(one.attributes["method"]), z, self._cell_id, self._domain, store.digest)
            for path, one, z in zip(embeddings, read, self._z)
        ] or [self._plain_map()]
        self._predictions = [self._read_predictions(path) for path in predictions]
        self.columns = list(self._make_columns())

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> list[str]:
        """The classes that a cell can be given: those of the store, the 13 and a project's own."""
        return next(column for column in self.columns if column.name == "label").names

    def _plain_map(self) -> Map:
        """Cells by size and score: a store without embeddings has a picture too."""
        spread = np.stack([self._side(), self.table["score"].to_numpy(np.float32)], axis=1)
        spread = spread / np.maximum(np.ptp(spread, axis=0), 1e-12)
        return Map("size and score", in_square(spread))

    def _side(self) -> np.ndarray:
        """The longer side of each cell's box, px."""
        return np.maximum(self._box[:, 2] - self._box[:, 0], self._box[:, 3] - self._box[:, 1])

    def _read_predictions(self, path: Path) -> tuple[str, CellMatrix]:
        found = read_predictions(path)
        made_from = str(found.attributes["store_digest"])
        if made_from != self.store.digest:
            raise CellfeatError(f"{path}: of another store ({made_from[:12]})", "predict this store")
        rows = rows_of(found.cell_id, self._cell_id, self.store.path)
        values = np.full((len(self), len(found.classes)), np.nan, np.float32)
        values[rows] = found.probabilities
        return str(found.attributes["method"]), CellMatrix(self._cell_id, values, found.classes, {})

    def _make_columns(self) -> Any:
        labels = self.table["label"].to_numpy(str)
        yield make.domains(self._domain)
        yield make.classes("label", labels, [*CLASSES, *self.store.classes.own])
        for method, found in self._predictions:
            known = np.isfinite(found.values[:, 0])
            named = np.where(known, found.columns[np.nan_to_num(found.values).argmax(axis=1)], "")
            yield make.classes(f"predicted by {method_name(method)}", named)
            confidence = np.full(len(self), np.nan, np.float32)
            confidence[known] = found.values[known].max(axis=1)
            yield make.number(f"confidence of {method_name(method)}", confidence)
        yield make.number("score", self.table["score"].to_numpy())
        yield make.number("box side (px)", self._side())
        for name in self.store.metadata:
            if column := make.texts(str(name), self.table[name].to_numpy(str)):
                yield column

    def describe(self) -> dict[str, Any]:
        """What the page needs before it asks for columns and maps."""
        return {
            "name": self.store.path.resolve().name,
            "digest": self.store.digest[:12],
            "cells": len(self),
            "columns": [
                {
                    "name": column.name,
                    "number": column.is_number,
                    "names": column.names,
                    "shown": column.shown,
                    "colours": list(column.colours),
                }
                for column in self.columns
            ],
            "maps": [{"name": method_name(one.name), "reason": one.reason} for one in self.maps],
            "neighbours": [method_name(one.name) for one in self.maps[: len(self._z)]],
        }

    def crop(self, row: int, outline: bool) -> bytes:
        """The crop of a cell as PNG, with the outline of its mask or without."""
        [picture] = self.store.read("crops", [row])
        if outline:
            [mask] = self.store.read("masks", [row])
            picture = np.where(_edge(mask)[..., None], OUTLINE, picture)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def card(self, row: int) -> dict[str, Any]:
        """Everything about one cell but its picture."""
        cell = self.table.iloc[row]
        width, height = self._size.get(self._image[row], (0, 0))
        others = np.flatnonzero(self._image == self._image[row])[:MAX_OF_IMAGE]
        return {
            "row": row,
            "cell_id": self._cell_id[row],
            "image_id": self._image[row],
            "image": {"width": int(width), "height": int(height)},
            "boxes": [{"row": int(other), "box": _numbers(self._box[other])} for other in {*others.tolist(), row}],
            "metadata": {str(name): str(cell[name]) for name in self.store.metadata},
            "predictions": [
                {"method": method_name(method), "classes": _probabilities(found.columns, found.values[row])}
                for method, found in self._predictions
                if np.isfinite(found.values[row]).all()
            ],
            "neighbours": [self._neighbours(z, row) for z in self._z],
        }

    def _neighbours(self, z: np.ndarray, row: int) -> dict[str, list[dict[str, float]]]:
        """The nearest cells of an embedding, by Euclidean distance, in the cell's laboratory and in the others."""
        away = np.sqrt(np.square(z - z[row]).sum(axis=1))
        away[row] = np.inf
        same = self._domain == self._domain[row]
        return {name: _nearest(np.where(mask, away, np.inf)) for name, mask in (("within", same), ("across", ~same))}


def _nearest(away: np.ndarray) -> list[dict[str, float]]:
    few = np.argpartition(away, min(NEIGHBOURS, len(away) - 1))[:NEIGHBOURS]
    few = few[np.argsort(away[few], kind="stable")]
    return [{"row": int(row), "distance": round(float(away[row]), 4)} for row in few if np.isfinite(away[row])]


def _probabilities(classes: np.ndarray, values: np.ndarray) -> list[dict[str, Any]]:
    return [{"class": str(classes[k]), "probability": round(float(values[k]), 4)} for k in np.argsort(-values)[:13]]


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]


def _edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask, (h, w), that have a neighbour outside of it."""
    inside = np.pad(mask.astype(bool), 1)
    whole = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask.astype(bool) & ~whole
