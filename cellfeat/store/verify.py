"""Checking a store: every rule of the format that reading alone would not notice being broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

from cellfeat.errors import CellfeatError
from cellfeat.files import sha256_file
from cellfeat.store.schema import CELL_COLUMNS, IMAGE_COLUMNS, REPAIR, SHARDS, box_fits, one_line

if TYPE_CHECKING:
    from cellfeat.store.reader import Store

BLOCK = 64  # cells read at a time


def problems(store: Store, progress: bool = False) -> list[str]:
    """All that is wrong with `store`, one line each: shards missing, unlisted or changed, wrong shapes, dtypes or
    counts, repeated ids, features that are not finite, masks that are not 0/1, boxes outside their image."""
    found = [f"{SHARDS}/{file}: not listed in the manifest" for file in _unlisted(store)]
    cell_ids, image_ids = [], []
    for number in tqdm(range(len(store.manifest["shards"])), desc="verify", unit="shard", disable=not progress):
        entry = store.manifest["shards"][number]
        try:
            shard = store.shard(number)
            if sha256_file(store.path / entry["file"]) != entry["sha256"]:
                found.append(f"{entry['file']}: its sha256 is not the manifest's; {REPAIR}")
            wrong = list(_wrong_shapes(shard, entry, store))
            wrong = wrong or [*_wrong_arrays(shard), *_wrong_rows(shard)]
            cell_ids += list(shard["cell_id"].asstr()[:])
            image_ids += list(shard["images/image_id"].asstr()[:])
        except CellfeatError as error:
            found.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            found.append(f"{entry['file']}: cannot be read ({one_line(error)}); {REPAIR}")
        else:
            found += [f"{entry['file']}: {problem}" for problem in wrong]
    for what, ids in {"cell_id": pd.Series(cell_ids), "image_id": pd.Series(image_ids)}.items():
        found += [f"{what} {name!r} occurs {count} times" for name, count in ids.value_counts().items() if count > 1]
    return found


def _unlisted(store: Store) -> list[str]:
    listed = {entry["file"] for entry in store.manifest["shards"]}
    files = (store.path / SHARDS).glob("*") if (store.path / SHARDS).is_dir() else ()
    return sorted(file.name for file in files if f"{SHARDS}/{file.name}" not in listed)


def _wrong_shapes(shard: h5py.File, entry: dict[str, Any], store: Store) -> Iterator[str]:
    cells, images = entry["cells"], entry["images"]
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        **{name: ((cells, *shape), dtype) for name, (shape, dtype) in store.layout.arrays.items()},
        **{name: ((cells, 4) if name == "boxes" else (cells,), dtype) for name, dtype in CELL_COLUMNS.items()},
        **{f"images/{name}": ((images,), dtype) for name, dtype in IMAGE_COLUMNS.items()},
    }
    for name, (shape, dtype) in wanted.items():
        found = "utf-8" if h5py.check_string_dtype(shard[name].dtype) else str(shard[name].dtype)
        if shard[name].shape != shape or found != dtype:
            yield f"{name} is {shard[name].shape} {found}, should be {shape} {dtype}"


def _wrong_arrays(shard: h5py.File) -> Iterator[str]:
    names = shard["cell_id"].asstr()[:]
    for start in range(0, len(names), BLOCK):
        block = slice(start, start + BLOCK)
        finite = np.isfinite(shard["features"][block]).all(axis=(1, 2, 3))
        binary = (shard["masks"][block] <= 1).all(axis=(1, 2))
        shard["crops"][block]  # a damaged chunk raises
        for name in names[block][~finite]:
            yield f"cell {name!r} has a feature that is not finite"
        for name in names[block][~binary]:
            yield f"cell {name!r} has a mask that is not 0/1"


def _wrong_rows(shard: h5py.File) -> Iterator[str]:
    images = pd.DataFrame({name: shard[f"images/{name}"][:] for name in ("cells", "width", "height")})
    images.index = pd.Index(shard["images/image_id"].asstr()[:], dtype=object)
    cells = pd.DataFrame({name: shard[name].asstr()[:] for name in ("cell_id", "image_id")}, dtype=object)
    if images.index.duplicated().any():
        return  # said by the check for repeated ids, and no cell can be looked up then
    counts = cells["image_id"].value_counts().reindex(images.index, fill_value=0)
    for name in images.index[counts != images["cells"]]:
        yield f"image {name!r} states {images['cells'][name]} cells, the shard has {counts[name]}"
    for name in cells["cell_id"][~cells["image_id"].isin(images.index)]:
        yield f"cell {name!r} is of an image that the shard does not list"
        return
    order = cells.groupby("image_id", sort=False).cumcount().astype(str)
    for name in cells["cell_id"][cells["cell_id"] != cells["image_id"] + "#" + order]:
        yield f"cell {name!r} is not named by its image and its rank"
    for name in cells["cell_id"][~np.isfinite(shard["scores"][:])]:
        yield f"cell {name!r} has a score that is not finite"
    sizes = images.loc[cells["image_id"]]
    fits = box_fits(shard["boxes"][:].astype(float), sizes["width"].to_numpy(), sizes["height"].to_numpy())
    for name in cells["cell_id"][~fits]:
        yield f"cell {name!r} has a box outside its image"
