"""Pictures that a browser sends: decoded in a child process, their cells named by a fitted network in another one.

Nothing of them is kept but the last few in memory, under names that the server chooses.
"""

from __future__ import annotations

import io
import secrets
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from cellfeat.data.foreign_image import read_foreign_rgb
from cellfeat.errors import CellfeatError
from cellfeat.reporting.palette import class_style
from cellfeat.view.data import png

MAX_BYTES = 32 << 20  # of a file; an uncompressed picture of 10 million pixels
MAX_PIXELS = 26_000_000  # the largest sensors of microscope cameras
SECONDS = 180  # that finding and naming the cells may take
KEPT = 4  # pictures in memory, some MB each
SIDE = 1600  # px of the picture that goes back


class Uploads:
    """The last pictures, and what was found in them.

    Args:
        predict: A picture (h, w, 3) uint8 RGB to a `cellfeat.workflows.predict.Prediction`.
    """

    def __init__(self, predict: Callable[[np.ndarray], Any]) -> None:
        self._predict = predict
        self._kept: OrderedDict[str, tuple[np.ndarray, Any]] = OrderedDict()

    def add(self, content: bytes) -> dict[str, Any]:
        """Find and name the cells of a picture file.

        Returns:
            For the page: id, width, height, classes, and of each cell its box (XYXY px), score, classes with
            probabilities and neighbours.

        Raises:
            CellfeatError: It is no picture that can be read, or is too large; or as the predictor.
        """
        rgb = _decoded(content)
        found = self._predict(rgb)
        name = secrets.token_hex(8)
        self._kept[name] = rgb, found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        boxes = found.table[["x0", "y0", "x1", "y1"]].to_numpy(float).round(1).tolist()
        order = np.argsort(-found.probabilities, axis=1)
        cells = [
            {
                "box": boxes[k],
                "score": round(float(found.table["score"].iloc[k]), 3),
                "colour": class_style(str(found.table["predicted"].iloc[k])).colour,
                "classes": [
                    {"class": found.classes[j], "probability": round(float(found.probabilities[k, j]), 4)}
                    for j in order[k][:13].tolist()
                ],
                "neighbours": []
                if found.neighbours is None
                else [
                    {"row": int(row), "distance": round(float(away), 4)}
                    for row, away in zip(found.neighbours[k], found.distances[k])
                ],
            }
            for k in range(len(boxes))
        ]
        return {"id": name, "width": rgb.shape[1], "height": rgb.shape[0], "cells": cells}

    def picture(self, name: str) -> bytes:
        """The picture as JPEG, at most 1,600 px wide or high.

        Raises:
            KeyError: It is no longer there.
        """
        rgb, _ = self._kept[name]
        image = Image.fromarray(rgb)
        image.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        return file.getvalue()

    def cell(self, name: str, number: int, heat: bool) -> bytes:
        """The crop of a cell as PNG, or the crop under its heat map.

        Raises:
            KeyError: The picture is no longer there.
            IndexError: It has no such cell.
        """
        _, found = self._kept[name]
        return png(found.overlay(number) if heat else found.crops[number])


def _decoded(content: bytes) -> np.ndarray:
    with TemporaryDirectory(prefix="cellfeat-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        try:
            return read_foreign_rgb(path, MAX_PIXELS)
        except CellfeatError as error:
            raise CellfeatError(f"the picture cannot be read: {getattr(error, 'reason', error)}") from None
