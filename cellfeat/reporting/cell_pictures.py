"""Pictures of a store's cells: outlines on the original images, and sheets of crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from cellfeat.core.files import atomic_path
from cellfeat.data.crops import crop_window
from cellfeat.store import Store

LONG_EDGE = 1600  # px of an overlay
TILE, GAP, CAPTION, COLUMNS = 112, 8, 16, 10  # px of a sheet, crops side by side
OUTLINE = (0, 230, 64)  # green: no stain has it
PAPER, INK = (255, 255, 255), (40, 40, 40)
QUALITY = 90  # of JPEG


def draw_overlay(rgb: np.ndarray, cells: pd.DataFrame, masks: np.ndarray, margin: float, output: Path) -> Path:
    """Draw the outlines of an image's cells, with their numbers and scores, into a JPEG.

    Args:
        rgb: The image, RGB uint8 (h, w, 3).
        cells: Rows of `cell_table` of this image.
        masks: Theirs, (n, S, S) 0/1 in the crops' frame.
        margin: Of the crops.
        output: The file.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, LONG_EDGE / max(height, width))
    small = cv2.resize(rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    small = np.ascontiguousarray(small)
    thick = 2 if min(small.shape[:2]) > 300 else 1
    for box, mask in zip(cells[["x0", "y0", "x1", "y1"]].to_numpy(float), masks, strict=True):
        for line in outlines(mask, box, margin):
            cv2.polylines(small, [np.round(line * scale).astype(np.int32)], True, OUTLINE, thick, cv2.LINE_AA)
    picture = Image.fromarray(small)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for cell in cells.itertuples():
        text = f"{cell.cell_id.rpartition('#')[2]}: {cell.score:.2f}"
        place = (max(0.0, cell.x0 * scale), max(0.0, cell.y0 * scale - 16))
        draw.text(place, text, INK, font, stroke_width=2, stroke_fill=PAPER)
    return _save(picture, output)


def outlines(mask: np.ndarray, box: np.ndarray, margin: float) -> list[np.ndarray]:
    """The outlines of a mask in the crop's frame, (n, 2) x and y in px of the image; the box's where it is empty."""
    if not mask.any():
        x0, y0, x1, y1 = box
        return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
    left, top, side = crop_window(box, margin)
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [(line[:, 0] + 0.5) * side / len(mask) + (left, top) for line in found]


def draw_sheet(store: Store, cells: pd.DataFrame, captions: Sequence[str], output: Path) -> Path:
    """Draw crops side by side with the outlines of their masks into a JPEG.

    Args:
        store: The store.
        cells: Rows of its table; the index are rows of the store.
        captions: What to write below each.
        output: The file.
    """
    rows = cells.index.to_numpy()
    lines = -(-len(rows) // COLUMNS)
    size = (COLUMNS * (TILE + GAP) + GAP, lines * (TILE + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pairs = zip(store.read("crops", rows), store.read("masks", rows), captions, strict=True)
    for k, (crop, mask, caption) in enumerate(pairs):
        x, y = GAP + k % COLUMNS * (TILE + GAP), GAP + k // COLUMNS * (TILE + CAPTION + GAP)
        sheet.paste(Image.fromarray(_outlined(crop, mask)), (x, y))
        draw.text((x, y + TILE + 1), _fitting(caption, font), INK, font)
    return _save(sheet, output)


def _outlined(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    tile = np.ascontiguousarray(cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_AREA))
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for line in found:
        place = np.round((line + 0.5) * TILE / len(mask) - 0.5).astype(np.int32)
        cv2.polylines(tile, [place], True, OUTLINE, 1, cv2.LINE_AA)
    return tile


def _fitting(text: str, font: Any) -> str:
    while font.getlength(text) > TILE:
        text = f"{text[:-2]}…"
    return text


def _save(picture: Image.Image, output: Path) -> Path:
    with atomic_path(output) as partial:
        picture.save(partial, "JPEG", quality=QUALITY)
    return output
