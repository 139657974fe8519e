"""What a dataset holds, as lines and as one picture of its images with their reference cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

from cellfeat.core.files import atomic_path
from cellfeat.data.dataset import Dataset, ImageRecord, counted
from cellfeat.data.images import UnreadableImage, read_rgb
from cellfeat.data.slides import is_slide, open_slide

IMAGES, COLUMNS, TILE, GAP = 12, 4, 320, 8  # shown, side by side, px, px
PREVIEW = "cellfeat-preview.png"  # no image of the dataset, see `cellfeat.data.listing`
PAPER, INK, OUTLINE = (255, 255, 255), (40, 40, 40), (0, 200, 0)
CAPTION = 18  # px below a tile


def describe_dataset(dataset: Dataset) -> Iterator[str]:
    """Lines on a dataset: where it comes from, images, labels, groups, reference cells, and what is not used.

    Raises:
        CellfeatError: Its files cannot be used; the message says which and why.
    """
    return (line for _, line in examine_dataset(dataset))


def examine_dataset(dataset: Dataset) -> Iterator[tuple[dict[str, Any], str]]:
    """Facts on a dataset as JSON values, and the line that says them; see `describe_dataset`."""
    spec = dataset.spec
    scale = f"{spec.um_per_px} µm a pixel" if spec.um_per_px else "scale unknown"
    yield {"name": dataset.name, "title": spec.title}, f"{dataset.name}: {spec.title}".removesuffix(": ")
    yield {"folder": str(dataset.folder)}, f"folder: {dataset.folder}"
    origin = {"domain": spec.domain, "um_per_px": spec.um_per_px, "licence": spec.licence}
    yield origin, f"domain {spec.domain}, {scale}, licence {spec.licence}"
    yield {"citation": spec.citation}, f"citation: {spec.citation}"
    records = dataset.records()
    yield {"images": len(records)}, f"images: {len(records)}"
    labels = Counter(record.label for record in records)
    unlabelled = labels.pop("", 0)
    shown = ", ".join(f"{label} {count}" for label, count in labels.most_common())
    yield (
        {"labels": dict(labels.most_common()), "unlabelled": unlabelled},
        f"labels: {shown or 'none'}{f', unlabelled {unlabelled}' if unlabelled and shown else ''}",
    )
    groups = len({record.group for record in records} - {""})
    unknown = "unknown, so a split may divide one patient between training and test"
    yield {"groups": groups}, f"groups (patients): {groups or unknown}"
    summary = dataset.summary()
    yield (
        {"reference_cells": summary.cells, "annotated_images": summary.annotated, "masks": summary.masks},
        f"reference cells: {summary.cells} in {summary.annotated} annotated images, {summary.masks} with a mask"
        if summary.cells
        else "reference cells: none, so a detector can neither learn from it nor be evaluated on it",
    )
    left = [*counted(dataset.left_out), *(f"{count} {reason}" for reason, count in summary.left_out.items())]
    yield {"not_used": left}, f"not used: {'; '.join(left) or 'nothing'}"


def draw_dataset(dataset: Dataset, output: Path, images: int = IMAGES) -> Path:
    """Draw images spread evenly over the dataset, annotated ones first, with the outlines of their reference cells.

    Args:
        output: The PNG to write.
        images: How many at most.

    Returns:
        `output`.

    Raises:
        CellfeatError: As `Dataset.records`.
    """
    records, cells = dataset.records(), defaultdict(list)
    if dataset.summary().annotated:
        coco = dataset.coco()
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        cells = defaultdict(list, {name: [] for name in names.values()})
        for annotation in coco["annotations"]:
            cells[names[annotation["image_id"]]].append(annotation)
    annotated = [record for record in records if str(record.path.absolute()) in cells]
    chosen = _spread(annotated, images) or _spread(records, images)
    lines = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, lines * (TILE + CAPTION + GAP) + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for k, record in enumerate(chosen):
        x, y = GAP + k % COLUMNS * (TILE + GAP), GAP + k // COLUMNS * (TILE + CAPTION + GAP)
        found = cells.get(str(record.path.absolute()), [])
        try:
            sheet.paste(_tile(_picture(record), found), (x, y))
        except UnreadableImage:
            draw.text((x, y), "cannot be read", INK, font)
        count = f", cells: {len(found)}" if cells else ""
        draw.text(
            (x, y + TILE + 2), _fitting(f"{record.path.name}, {record.label or 'unlabelled'}{count}", font), INK, font
        )
    with atomic_path(output) as partial:
        sheet.save(partial, "PNG")
    return output


def _picture(record: ImageRecord) -> np.ndarray:
    if not is_slide(record.path):
        return read_rgb(record.path, bits=record.bits)
    with open_slide(record.path) as slide:
        return slide.thumbnail(TILE)


def _spread(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    chosen = (
        np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)) if records else ()
    )
    return [records[i] for i in chosen]


def _tile(rgb: np.ndarray, annotations: Sequence[dict[str, Any]]) -> Image.Image:
    """An image (h, w, 3) with the outlines of its cells, fitted into a tile."""
    height, width = rgb.shape[:2]
    scale = TILE / max(height, width)
    small = cv2.resize(rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    small = np.ascontiguousarray(small)
    for annotation in annotations:
        for outline in _outlines(annotation, height, width):
            cv2.polylines(small, [np.round(outline * scale).astype(np.int32)], True, OUTLINE, 1, cv2.LINE_AA)
    tile = Image.new("RGB", (TILE, TILE), (235, 235, 235))
    tile.paste(Image.fromarray(small), ((TILE - small.shape[1]) // 2, (TILE - small.shape[0]) // 2))
    return tile


def _outlines(annotation: dict[str, Any], height: int, width: int) -> list[np.ndarray]:
    """Outlines (n, 2), x and y in px of the image: of the mask, else of the box."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        encoded = rle.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
        found, _ = cv2.findContours(rle.decode(encoded), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        return [outline[:, 0].astype(float) for outline in found]
    if segmentation:
        return [np.reshape(polygon, (-1, 2)).astype(float) for polygon in segmentation]
    x, y, w, h = annotation["bbox"]
    return [np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], float)]


def _fitting(text: str, font: Any) -> str:
    while font.getlength(text) > TILE:
        text = f"…{text[2:]}"
    return text
