"""Checking a store: every rule of the format that reading alone would not notice being broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

from cellfeat.core.files import sha256_file
from cellfeat.errors import CellfeatError
from cellfeat.store import probe
from cellfeat.store.guard import damage_named
from cellfeat.store.manifest import seal_problem
from cellfeat.store.schema import REPAIR, SHARDS, box_fits, finite, one_line

if TYPE_CHECKING:
    from cellfeat.store.reader import Store

BLOCK = 256  # cells read at a time
AHEAD = 8  # shards that one child process looks at


def problems(store: Store, progress: bool = False) -> list[str]:
    """All that is wrong with `store`, one line each: a manifest that was changed, shards missing, unlisted or changed,
    wrong shapes, dtypes or counts, repeated ids, features that are not finite or constant, masks that are not 0/1,
    boxes outside their image."""
    found = [problem for problem in [seal_problem(store.path)] if problem]
    found += [f"{SHARDS}/{file}: not listed in the manifest" for file in _unlisted(store)]
    ids: dict[str, list[pd.Series]] = {"cell_id": [], "images/image_id": []}
    shards = range(len(store.manifest["shards"]))
    for number in tqdm(shards, desc="verify", unit="shard", disable=not progress):
        if number % AHEAD == 0:
            changed = {k: wrong_digest(store, k) for k in shards[number : number + AHEAD]}
            probe.look_at(store.path / store.manifest["shards"][k]["file"] for k in changed if not changed[k])
        damage, constant = (changed[number], []) if changed[number] else shard_problems(store, number)
        found += damage + constant
        if not damage:
            shard = store.shard(number)
            for name, columns in ids.items():
                columns.append(pd.Series(shard[name].asstr()[:]))
    for what, columns in ids.items():
        counts = pd.concat([pd.Series(dtype=object), *columns]).value_counts()
        found += [f"{what} {name!r} occurs {count} times" for name, count in counts[counts > 1].items()]
    return found


def wrong_digest(store: Store, number: int) -> list[str]:
    """One line if the file of the `number`-th listed shard is not the one that was listed; it is for nobody to open."""
    entry = store.manifest["shards"][number]
    try:
        path = store.path / entry["file"]
        same = not path.is_file() or sha256_file(path) == entry["sha256"]
    except OSError as error:
        return [f"{entry['file']}: cannot be read ({one_line(error)}); {REPAIR}"]
    return [] if same else [f"{entry['file']}: its sha256 is not the manifest's; {REPAIR}"]


def shard_problems(store: Store, number: int) -> tuple[list[str], list[str]]:
    """What is wrong within the `number`-th listed shard of `store`, one line each.

    Returns:
        What makes it unfit for use; and the cells whose feature says nothing, which is no damage (but no network takes
        them well: a range of 0 cannot be scaled).
    """
    entry = store.manifest["shards"][number]
    try:
        damage, constant = _array_problems(store, number)
        with damage_named(store.path / entry["file"]):
            damage += _wrong_rows(store.shard(number))
        return [f"{entry['file']}: {problem}" for problem in damage], [f"{entry['file']}: {what}" for what in constant]
    except CellfeatError as error:
        return [str(error).replace(f"{store.path}/", "", 1)], []


def _unlisted(store: Store) -> list[str]:
    listed = {entry["file"] for entry in store.manifest["shards"]}
    files = (store.path / SHARDS).glob("*") if (store.path / SHARDS).is_dir() else ()
    return sorted(file.name for file in files if f"{SHARDS}/{file.name}" not in listed)


def _array_problems(store: Store, number: int) -> tuple[list[str], list[str]]:
    """Cells whose arrays are wrong, and cells of a constant feature; a damaged chunk raises, by its fletcher32."""
    shard = store.shard(number)
    with damage_named(shard.filename):
        names = shard["cell_id"].asstr()[:]
    first = sum(entry["cells"] for entry in store.manifest["shards"][:number])
    wrong, constant = [], []
    for start in range(0, len(names), BLOCK):
        block = names[start : start + BLOCK]
        rows = np.arange(first + start, first + start + len(block))
        features = store.read("features", rows).reshape(len(rows), -1)
        sound = finite(features).all(axis=1)
        binary = store.read("masks", rows).max(axis=(1, 2)) <= 1
        store.read("crops", rows)
        wrong += [f"cell {name!r} has a feature that is not finite" for name in block[~sound]]
        wrong += [f"cell {name!r} has a mask that is not 0/1" for name in block[~binary]]
        alike = np.flatnonzero((features[:, :64] == features[:, :1]).all(axis=1) & (features.shape[1] > 1))
        same = alike[(features[alike] == features[alike, :1]).all(axis=1)]
        constant += [f"cell {name!r} has a constant feature" for name in block[same]]
    return wrong, constant


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
    rank = pd.to_numeric(cells["cell_id"].str.extract(r"#(\d{1,9})$", expand=False)).fillna(-1).astype(np.int64)
    named = cells["cell_id"] == cells["image_id"] + "#" + rank.astype(str)
    rising = rank.groupby(cells["image_id"], sort=False).diff().fillna(1) > 0
    together = cells["image_id"].ne(cells["image_id"].shift()).groupby(cells["image_id"]).transform("sum") == 1
    for name in cells["cell_id"][~(named & rising & together)]:
        yield f"cell {name!r} is not named by its image and its rank"
    for name in cells["cell_id"][~np.isfinite(shard["scores"][:])]:
        yield f"cell {name!r} has a score that is not finite"
    sizes = images.loc[cells["image_id"]]
    fits = box_fits(shard["boxes"][:].astype(float), sizes["width"].to_numpy(), sizes["height"].to_numpy())
    for name in cells["cell_id"][~fits]:
        yield f"cell {name!r} has a box outside its image"
