"""Looking at a store: what it holds in words (`describe`) and in pictures (`montage`)."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Table

from cellfeat.core.files import atomic_path
from cellfeat.errors import CellfeatError
from cellfeat.store.indexing import all_columns
from cellfeat.store.reader import Store
from cellfeat.store.schema import METADATA, all_elements

UNLABELLED = "(unlabelled)"

TILE = 96  # px, side of a crop in the montage
GAP = 4  # px between crops; four times that between domains
OUTLINE = (0, 230, 64)  # green: Giemsa leaves nothing of this hue, from eosin pink to azure violet
INK, FAINT, PAPER = (20, 20, 20), (105, 105, 105), (255, 255, 255)


def facts(store: Store, provenance: bool = False) -> dict[str, Any]:
    """What a store holds, for programs: counts as numbers, tables as lists of rows.

    Args:
        store: The store.
        provenance: With what it was made from.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    images = store.images()
    counts = class_counts(store.table()) if len(store) else pd.DataFrame()
    return {
        "store": str(store.path),
        "version": store.manifest["version"],
        "digest": store.digest,
        "cells": len(store),
        "images": len(images),
        "shards": len(store.manifest["shards"]),
        "classes": {name: {str(d): int(n) for d, n in row.items()} for name, row in counts.iterrows()},
        "unreadable": {str(why): int(n) for why, n in images["reason"].value_counts().items() if why},
        **({"provenance": store.provenance} if provenance else {}),
    }


def describe(store: Store, provenance: bool = True) -> str:
    """What a store holds, as text of at most 120 columns: cells per class and domain, detection rate, images that could
    not be read.

    Args:
        store: The store.
        provenance: Also the arrays with shape, dtype, chunk, filters and size on disk, and what the store was made
            from.

    Raises:
        CellfeatError: A shard is missing or damaged.
    """
    manifest, images = store.manifest, store.images()
    size = sum((store.path / shard["file"]).stat().st_size for shard in manifest["shards"])
    console = Console(file=StringIO(), width=120, color_system=None, highlight=False, emoji=False, markup=False)
    console.print(
        f"{store.path}: {manifest['format']} {manifest['version']}, by cellfeat {manifest['package_version']}"
    )
    console.print(
        f"{len(store):,} cells of {len(images):,} images in {len(manifest['shards']):,} shards, {_bytes(size)}; "
        f"digest {store.digest[:16]}\n"
    )
    if provenance:
        _print(console, "Datasets of a shard (n cells; images/ has one row an image)", _datasets(store))
    if len(store):
        counts = class_counts(store.table())
        counts.loc["total"] = counts.sum()
        _print(console, "Cells per class and domain", counts.map("{:,}".format).rename_axis("class").reset_index())
    if len(images):
        rates = store.detection_rate()
        rates["rate"] = ["-" if np.isnan(rate) else f"{rate:.1%}" for rate in rates["rate"]]
        _print(console, "Detection rate: readable images with a cell / readable images", rates.reset_index())
    unreadable = images[images["reason"] != ""]
    if len(unreadable):
        _print(console, "Unreadable images", unreadable["reason"].value_counts().rename_axis("reason").reset_index())
    made_from = pd.DataFrame(_flat(store.provenance), columns=["key", "value"])
    if provenance and len(made_from):
        _print(console, "Provenance", made_from)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def class_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Cells of each class (rows, by name, the unlabelled last) in each domain (columns) of a store's table."""
    classes = table["label"].replace("", UNLABELLED)
    counts = pd.crosstab(classes, table["domain"])
    return counts.reindex(sorted(counts.index, key=lambda name: (name == UNLABELLED, name)))


def montage(
    store: Store, output: str | Path, per_class: int = 4, columns: int | None = None, outline: bool = True
) -> Path:
    """Draw crops of every class (rows) in every domain (columns) as one PNG, each cell's mask outlined in green.

    The cells shown are spread evenly over the store's rows of that class and domain, so the same store gives the same
    picture.

    Args:
        store: The store.
        output: The PNG to write.
        per_class: Most crops for one class in one domain.
        columns: Crops side by side before a new line starts within one class and domain; default all of them.
        outline: Draw the masks' outlines.

    Returns:
        `output`.

    Raises:
        CellfeatError: The store holds no cell, or a shard is missing or damaged.
    """
    if not len(store):
        raise CellfeatError(f"{store.path}: holds no cell, so there is nothing to draw; dump images into it first")
    if per_class < 1 or (columns is not None and columns < 1):
        raise CellfeatError(f"montage of {per_class} crops a class in {columns} columns; give positive numbers")
    output = Path(output)
    table = store.table()
    table["label"] = table["label"].replace("", UNLABELLED)
    counts = class_counts(table)
    picked = {key: _spread(rows, per_class) for key, rows in table.groupby(["label", "domain"]).indices.items()}
    most = max(len(rows) for rows in picked.values())
    columns = min(columns or most, most)
    rows = np.concatenate(list(picked.values()))
    drawings = (_drawing(*pair, outline) for pair in zip(store.read("crops", rows), store.read("masks", rows)))
    tiles = dict(zip(rows.tolist(), drawings))

    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    left = 2 * GAP + int(max(large.getlength(name) for name in counts.index)) + 4 * GAP
    block = max(columns * (TILE + GAP), int(max(large.getlength(name) for name in counts.columns))) + 4 * GAP
    lines = {
        name: -(-max(len(picked.get((name, domain), ())) for domain in counts) // columns) for name in counts.index
    }
    top = 48
    height = top + sum(count * (TILE + GAP) + 3 * GAP for count in lines.values())
    sheet = Image.new("RGB", (left + block * len(counts.columns), height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, domain in enumerate(counts):
        draw.text((left + k * block, 6), domain, INK, large)
        draw.text((left + k * block, 26), f"{_cells(counts[domain].sum())}", FAINT, small)
    y = top
    for name in counts.index:
        draw.text((2 * GAP, y + TILE // 2 - 18), name, INK, large)
        draw.text((2 * GAP, y + TILE // 2 + 2), _cells(counts.loc[name].sum()), FAINT, small)
        for k, domain in enumerate(counts):
            for i, row in enumerate(picked.get((name, domain), ())):
                x = left + k * block + i % columns * (TILE + GAP)
                sheet.paste(tiles[row], (x, y + i // columns * (TILE + GAP)))
            if (name, domain) not in picked:
                draw.text((left + k * block, y + TILE // 2 - 8), "none", FAINT, small)
        y += lines[name] * (TILE + GAP) + 3 * GAP
    with atomic_path(output) as partial:
        sheet.save(partial, format="PNG")
    return output


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _drawing(crop: np.ndarray, mask: np.ndarray, outline: bool) -> Image.Image:
    """A crop (S, S, 3) uint8 RGB at the size of a tile, with the rim of its mask (S, S) 0/1 drawn just outside."""
    tile = Image.fromarray(crop).resize((TILE, TILE), Image.Resampling.LANCZOS)
    if outline:
        inside = Image.fromarray(mask * np.uint8(255)).resize((TILE, TILE), Image.Resampling.BILINEAR)
        filled = np.pad(np.asarray(inside) > 127, 1, mode="edge")
        shifted = [filled[y : y + TILE, x : x + TILE] for y in range(3) for x in range(3)]
        rim = np.logical_or.reduce(shifted) & ~filled[1:-1, 1:-1]
        tile.paste(OUTLINE, mask=Image.fromarray(rim))
    return tile


def _cells(count: int) -> str:
    return f"{count:,} cell{'' if count == 1 else 's'}"


def _datasets(store: Store) -> pd.DataFrame:
    """One row a dataset: its form in the first shard that has it; of large arrays the size over all shards."""
    shards, rows = store.shards, []
    known = all_columns(shards)
    wanted = dict.fromkeys((*(element.name for element in all_elements()), *known.images))
    for number in range(len(shards)):  # the first one, unless later ones have further metadata
        shard = shards.open(number)
        for name in [name for name in wanted if name in shard]:
            del wanted[name]
            rows.append(_dataset(name, shard[name], known.chunks.get(name)))
        if not any(name.startswith(METADATA) for name in wanted):
            break
    return pd.DataFrame(rows)


def _dataset(name: str, form: h5py.Dataset, chunks: np.ndarray | None) -> dict[str, str]:
    text = h5py.check_string_dtype(form.dtype) is not None
    filters = [
        f"gzip {form.compression_opts}" if form.compression == "gzip" else form.compression,
        form.shuffle and "shuffle",
        form.fletcher32 and "fletcher32",
    ]
    stored = 0 if chunks is None else int(chunks["size"].sum())
    raw = 0 if chunks is None else len(chunks) * form.dtype.itemsize * math.prod(form.shape[1:])
    return {
        "dataset": name,
        "shape": f"(n,{' ' if form.shape[1:] else ''}{', '.join(map(str, form.shape[1:]))})",
        "dtype": "utf-8" if text else str(form.dtype),
        "chunk": str(form.chunks) if form.chunks else "-",
        "filters": ", ".join(name for name in filters if name) or "-",
        "on disk": _bytes(stored) if stored else "-",  # the small columns take next to nothing
        "ratio": f"{raw / stored:.2f}" if stored else "-",
    }


def _flat(value: Any, key: str = "") -> list[tuple[str, str]]:
    """The leaves of a JSON value as (dotted key, text)."""
    if isinstance(value, dict) and value:
        return [leaf for name in value for leaf in _flat(value[name], f"{key}.{name}" if key else name)]
    return [(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]


def _print(console: Console, title: str, frame: pd.DataFrame) -> None:
    """Print a table, figures to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for k, name in enumerate(frame.columns):
        numeric = k > 0 and frame[name].map(lambda text: str(text)[:1].isdigit() or text == "-").all()
        table.add_column(str(name), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    console.print(title)
    console.print(table)


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
