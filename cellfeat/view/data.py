"""What the page shows of a store: columns, maps, and everything about one cell."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cellfeat.data.annotations.geometry import iou
from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.neighbours import Neighbours
from cellfeat.evaluation.table import align
from cellfeat.reporting.palette import CLASSES, method_name
from cellfeat.store import Store, probe, read_embeddings, read_predictions
from cellfeat.view import columns as make
from cellfeat.view import review
from cellfeat.view.columns import Column
from cellfeat.view.fitted import Fitted
from cellfeat.view.maps import Map, in_square, kept_at, map_of
from cellfeat.view.stores import STORE, Stores

NEIGHBOURS = 6  # within the laboratory, and as many across
MAX_OF_IMAGE = 500  # boxes of one image on a card
TWIN = 0.3  # IoU from which two boxes of one image, in two stores, are one cell
QUALITY = 90  # of JPEG, in the gallery; the card's crop is a PNG
OUTLINE = np.array([255, 221, 0], np.uint8)  # yellow: rare in a stained smear


class Embedding:
    """The vectors that a method gives the cells of one store.

    Attributes:
        method: The method.
        part: The store.
        among: Its cells, to look for neighbours.
        title: What it is called on the page.
        map: Where cells lie, NaN for those of other stores.
    """

    def __init__(self, path: Path, stores: Stores) -> None:
        found = read_embeddings(path)
        self.method = str(found.attributes["method"])
        self.part = stores.part_with(str(found.attributes["store_digest"]), path, "embed")
        own = stores.table.iloc[self.part.rows]
        self.among = Neighbours(align(found, own))
        cell_id, domain = own["cell_id"].to_numpy(str), own["domain"].to_numpy(str)
        drawn = map_of(path, self.method, self.among.z, cell_id, domain, self.part.store.digest)
        points = np.full((len(stores.table), 2), np.nan, np.float32)
        points[self.part.rows] = drawn.points
        self.title = method_name(self.method) + (f" of {self.part.name}" if len(stores.parts) > 1 else "")
        self.map = Map(self.title, points, drawn.reason)


class Opinion:
    """What a fitted classifier calls the cells of one store.

    Attributes:
        method: The classifier.
        classes: (k,) str.
        probabilities: (n, k) float32 of all cells, NaN for those that it did not name.
    """

    def __init__(self, path: Path, stores: Stores) -> None:
        found = read_predictions(path)
        self.method, self.classes = str(found.attributes["method"]), found.classes
        part = stores.part_with(str(found.attributes["store_digest"]), path, "predict")
        rows = rows_of(found.cell_id, stores.table["cell_id"].iloc[part.rows], part.store.path) + part.rows.start
        self.probabilities = np.full((len(stores.table), len(found.classes)), np.nan, np.float32)
        self.probabilities[rows] = found.probabilities

    @property
    def known(self) -> np.ndarray:
        """(n,) bool: the cells that it named."""
        return np.isfinite(self.probabilities[:, 0])

    @property
    def named(self) -> np.ndarray:
        """(n,) str: the most probable class, "" for none."""
        return np.where(self.known, self.classes[np.nan_to_num(self.probabilities).argmax(axis=1)], "")

    @property
    def confidence(self) -> np.ndarray:
        """(n,) float32: its probability."""
        return self.probabilities.max(axis=1)  # NaN where it is NaN


class Cells:
    """Stores, their embeddings and predictions, as the page asks for them. Nothing here is changed later.

    Args:
        store: The store; several are shown beside each other.
        embeddings: Embeddings files, of a store each of another method.
        predictions: Predictions files.
        fitted: Folders of networks that were fitted on the first store, to show where they look.

    Attributes:
        table: `Stores.table`.
        columns: What cells can be coloured and filtered by.
        maps: One for each embeddings file; without any, the cells by size and score.

    Raises:
        CellfeatError: A store is empty, or a file belongs to another store.
    """

    def __init__(
        self,
        store: Store | Sequence[Store],
        embeddings: Sequence[Path] = (),
        predictions: Sequence[Path] = (),
        fitted: Sequence[Path] = (),
    ) -> None:
        self.stores = Stores([store] if isinstance(store, Store) else store)
        self.table, self.store = self.stores.table, self.stores.parts[0].store
        self._cell_id = self.table["cell_id"].to_numpy(str)
        self._domain = self.table["domain"].to_numpy(str)
        self._box = self.table[["x0", "y0", "x1", "y1"]].to_numpy(np.float32)
        self._part = np.repeat(range(len(self.stores.parts)), [len(part.store) for part in self.stores.parts])
        self._image = pd.factorize(self.table["image_id"])[0]
        self._size = [_sizes(part.store) for part in self.stores.parts]
        kept = [kept_at(Path(path)) for path in embeddings]
        probe.look_at([Path(path) for path in (*embeddings, *kept, *predictions)])  # one child for all files
        self._embeddings = [Embedding(Path(path), self.stores) for path in embeddings]
        _check_methods(embeddings, self._embeddings)
        self._opinions = [Opinion(Path(path), self.stores) for path in predictions]
        self._fitted = [Fitted(Path(path), self.stores.parts[0]) for path in fitted]
        self.maps = [one.map for one in self._embeddings] or [self._plain_map()]
        self.columns = list(self._make_columns())

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> list[str]:
        """The classes that a cell can be given: those of the store, the 13 and a project's own."""
        return next(column for column in self.columns if column.name == "label").names

    def describe(self) -> dict[str, Any]:
        """What the page needs before it asks for columns and maps."""
        return {
            "name": " and ".join(part.name for part in self.stores.parts),
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
            "maps": [{"name": one.name, "reason": one.reason} for one in self.maps],
            "stores": [part.name for part in self.stores.parts],
            "fitted": [method_name(one.method.name) for one in self._fitted],
        }

    def crop(self, row: int, outline: bool) -> bytes:
        """The crop of a cell as PNG, with the outline of its mask or without."""
        return png(self._crops([row], outline)[0])

    def sheet(self, rows: Sequence[int], outline: bool) -> bytes:
        """The crops of cells side by side as JPEG, all of the size of the first one's."""
        parts = {int(self._part[row]) for row in rows}
        side = self.stores.part_of(rows[0]).store.layout.crop_size
        if len({self.stores.parts[part].store.layout.crop_size for part in parts}) == 1:
            crops = self._crops(rows, outline)
        else:
            crops = np.stack([_resized(self._crops([row], outline)[0], side) for row in rows])
        file = io.BytesIO()
        Image.fromarray(np.concatenate(list(crops), axis=1)).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    def _crops(self, rows: Sequence[int], outline: bool) -> np.ndarray:
        pictures = self.stores.read("crops", rows)
        if not outline:
            return pictures
        masks = self.stores.read("masks", rows)
        return np.stack([np.where(_edge(mask)[..., None], OUTLINE, one) for one, mask in zip(pictures, masks)])

    def heat(self, number: int, row: int) -> dict[str, Any]:
        """Where the `number`-th fitted network looks at a cell, and what it calls it.

        Raises:
            CellfeatError: It does not know the cell's laboratory, or a package is missing.
        """
        fitted = self._fitted[number]
        classes, probabilities, picture = fitted.look(row)
        return {"picture": png(picture), "classes": _probabilities(np.array(classes), probabilities)}

    def card(self, row: int) -> dict[str, Any]:
        """Everything about one cell but its picture."""
        cell, number = self.table.iloc[row], int(self._part[row])
        image_id = str(cell["image_id"])
        width, height = self._size[number].get(image_id, (0, 0))
        same = np.flatnonzero(self._image == self._image[row])
        others = same[self._part[same] == number][:MAX_OF_IMAGE]
        return {
            "row": row,
            "cell_id": self._cell_id[row],
            "image_id": image_id,
            "image": {"width": int(width), "height": int(height)},
            "boxes": [{"row": int(other), "box": _numbers(self._box[other])} for other in {*others.tolist(), row}],
            "values": [_value(column, row) for column in self.columns],
            "metadata": {str(name): str(cell[name]) for name in self.stores.metadata},
            "predictions": [
                {"method": method_name(one.method), "classes": _probabilities(one.classes, one.probabilities[row])}
                for one in self._opinions
                if np.isfinite(one.probabilities[row]).all()
            ],
            "neighbours": [
                {"method": one.title, **self._neighbours(one, row)}
                for one in self._embeddings
                if one.part is self.stores.parts[number]
            ],
            "twins": self._twins(row, same[self._part[same] != number]),
            "heat": list(range(len(self._fitted))) if number == 0 else [],
        }

    def _twins(self, row: int, others: np.ndarray) -> list[dict[str, Any]]:
        """The cells of the same image in other stores whose box is nearly this one's."""
        own = tuple(self._box[row].tolist())
        overlaps = [(other, iou(own, tuple(self._box[other].tolist()))) for other in others.tolist()]
        return [
            {"row": other, "store": self.stores.part_of(other).name, "iou": round(overlap, 3)}
            for other, overlap in overlaps
            if overlap >= TWIN
        ]

    def _neighbours(self, embedding: Embedding, row: int) -> dict[str, list[dict[str, float]]]:
        """The nearest cells of an embedding, by Euclidean distance, in the cell's laboratory and in the others."""
        first, domain = embedding.part.rows.start, self._domain[embedding.part.rows]
        own, same = row - first, domain == self._domain[row]
        found = {}
        for name, allowed in (("within", same & (np.arange(len(same)) != own)), ("across", ~same)):
            rows, away = embedding.among.nearest(embedding.among.z[own], NEIGHBOURS, allowed)
            found[name] = [{"row": first + int(one), "distance": round(float(far), 4)} for one, far in zip(rows, away)]
        return found

    def _plain_map(self) -> Map:
        """Cells by size and score: a store without embeddings has a picture too."""
        spread = np.stack([self._side(), self.table["score"].to_numpy(np.float32)], axis=1)
        spread = spread / np.maximum(np.ptp(spread, axis=0), 1e-12)
        return Map("size and score", in_square(spread))

    def _side(self) -> np.ndarray:
        """The longer side of each cell's box, px."""
        return np.maximum(self._box[:, 2] - self._box[:, 0], self._box[:, 3] - self._box[:, 1])

    def _make_columns(self) -> Iterator[Column]:
        labels = self.table["label"].to_numpy(str)
        own = [name for part in self.stores.parts for name in part.store.classes.own]
        yield make.domains(self._domain)
        yield make.classes("label", labels, [*CLASSES, *own])
        for one in self._opinions:
            yield make.classes(f"predicted by {method_name(one.method)}", one.named)
            yield make.number(f"confidence of {method_name(one.method)}", one.confidence)
        yield from self._review(labels)
        yield make.number("score", self.table["score"].to_numpy())
        yield make.number("box side (px)", self._side())
        for name in ([STORE] if len(self.stores.parts) > 1 else []) + self.stores.metadata:
            if column := make.texts(str(name), self.table[name].to_numpy(str)):
                yield column

    def _review(self, labels: np.ndarray) -> Iterator[Column]:
        """What to look at next, and what it is made of."""
        differ = review.disagreement([*(one.named for one in self._opinions), labels] if self._opinions else [])
        apart = []
        for one in self._embeddings:
            if (found := review.apartness(one.among.z)) is not None:
                values = np.full(len(self), np.nan, np.float32)
                values[one.part.rows] = found
                apart.append(make.number(f"distance to others by {one.title}", values))
        signals = [1 - one.confidence for one in self._opinions] + ([] if differ is None else [differ])
        worth = review.worth([*signals, *(column.values for column in apart)])
        if worth is not None:
            yield make.number("worth a look", worth)
        if differ is not None:
            yield make.number("disagreement", differ)
        yield from apart


def png(picture: np.ndarray) -> bytes:
    """A picture (h, w, 3) uint8 as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side)))


def _sizes(store: Store) -> dict[str, tuple[int, int]]:
    """Width and height of each image, px."""
    return {image: (w, h) for image, w, h in store.images()[["image_id", "width", "height"]].to_numpy()}


def _check_methods(paths: Sequence[Path], embeddings: Sequence[Embedding]) -> None:
    """Refuse two files of one method of one store."""
    seen = set()
    for path, one in zip(paths, embeddings):
        if (key := (one.part.name, one.method)) in seen:
            raise CellfeatError(f"{path}: a second file of method {one.method!r}", "give one file a method")
        seen.add(key)


def _probabilities(classes: np.ndarray, values: np.ndarray) -> list[dict[str, Any]]:
    return [{"class": str(classes[k]), "probability": round(float(values[k]), 4)} for k in np.argsort(-values)[:13]]


def _value(column: Column, row: int) -> float | None:
    """A column's value of one cell: the code of a name, or a number, None for none."""
    value = column.values[row].item()
    return value if np.isfinite(value) else None


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values]


def _edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask, (h, w), that have a neighbour outside of it."""
    inside = np.pad(mask.astype(bool), 1)
    whole = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask.astype(bool) & ~whole
