"""What a dump found of each site, in numbers: of a whole store, or of its parts added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.data.catalogue import ImageRecord
from cellfeat.store import Store
from cellfeat.store.fields import whole_images, whole_table

SUMMARY = "summary.json"  # in the store's folder


def summarise(store: Store, records: Sequence[ImageRecord]) -> dict[str, dict[str, float | int | None]]:
    """Per domain: images, unreadable, with_cell, cells, detection_rate, and the mean over images with one reference box
    of the best IoU that a stored cell has with it (`mean_iou`, over `iou_images` images; a missed cell counts 0)."""
    references = {record.image_id: np.array(record.boxes[0]) for record in records if len(record.boxes) == 1}
    cells = {
        name: rows[["x0", "y0", "x1", "y1"]].to_numpy()
        for name, rows in whole_table(store.table(), store.images()).groupby("image_id")
    }
    summary = {}
    for domain, images in whole_images(store.images()).groupby("domain", sort=False):
        readable = images[images["reason"] == ""]
        overlaps = [
            float(np.max(iou(cells[name], references[name]))) if name in cells else 0.0
            for name in readable["image_id"]
            if name in references
        ]
        summary[str(domain)] = {
            "images": len(images),
            "unreadable": len(images) - len(readable),
            "with_cell": int((readable["cells"] > 0).sum()),
            "cells": int(readable["cells"].sum()),
            "detection_rate": float((readable["cells"] > 0).mean()) if len(readable) else None,
            "mean_iou": float(np.mean(overlaps)) if overlaps else None,
            "iou_images": len(overlaps),
        }
    return summary


def joined_summary(parts: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float | int | None]]:
    """The summary of a store whose parts have the summaries `parts`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for domain, numbers in part.items():
            found.setdefault(domain, []).append(numbers)
    joined: dict[str, dict[str, float | int | None]] = {}
    for domain, several in found.items():
        total = {key: sum(one[key] for one in several) for key in ("images", "unreadable", "with_cell", "cells")}
        readable, compared = total["images"] - total["unreadable"], sum(one["iou_images"] for one in several)
        overlap = sum(one["mean_iou"] * one["iou_images"] for one in several if one["iou_images"])
        joined[domain] = total | {
            "detection_rate": total["with_cell"] / readable if readable else None,
            "mean_iou": overlap / compared if compared else None,
            "iou_images": compared,
        }
    return joined


def iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) boxes with one (4,) box, all XYXY px: (n,); 0 of two empty boxes."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    intersection = inner.clip(min=0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    union = area - intersection
    return np.divide(intersection, union, out=np.zeros(len(boxes)), where=union > 0)


def summary_table(summary: dict[str, dict[str, float | int | None]]) -> str:
    """`summarise`'s dict as lines for a terminal."""
    table = pd.DataFrame.from_dict(summary, orient="index")
    table.index.name = "domain"
    return table.reset_index().to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4f}")
