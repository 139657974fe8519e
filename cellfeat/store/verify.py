"""Checking a store: every rule of the format that reading alone would not notice being broken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cellfeat.core.files import sha256_file
from cellfeat.core.lock import LOCK
from cellfeat.core.progress import Progress
from cellfeat.errors import CellfeatError, Damaged, one_line
from cellfeat.store.guard import damage_named
from cellfeat.store.index import INDEX, read_index
from cellfeat.store.indexing import read_shard
from cellfeat.store.manifest import check_seal, read_manifest
from cellfeat.store.schema import MANIFEST, REPAIR, SHARDS, Element, all_elements, box_fits, element, finite
from cellfeat.store.shards import Shards

BLOCK = 256  # cells read at a time
LISTING = 5.0  # seconds within which a writer at work lists a shard that it has put in place
AHEAD = 8  # shards that one child process looks at


class Problem(NamedTuple):
    """One thing that is wrong with a store.

    Attributes:
        place: The file within the store, or what else it is about.
        what: What is wrong.
        remedy: What to do about it; "" where that is for the reader to decide.
    """

    place: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


def problems(shards: Shards, progress: bool = False) -> list[Problem]:
    """All that is wrong with a store: a manifest that was changed, shards missing, unlisted or changed, wrong shapes,
    dtypes or counts, repeated ids, values out of bounds, features that are not finite or constant, boxes outside their
    image."""
    index = read_index(shards.path, shards.manifest["shards"])
    shards = Shards(shards.path, shards.manifest)  # without the index: every shard is read
    found = manifest_problems(shards.path)
    found += [Problem(f"{SHARDS}/{file}", "not listed in the manifest") for file in _unlisted(shards)]
    ids: dict[str, list[pd.Series]] = {"cell_id": [], "images/image_id": []}
    for number in Progress(range(len(shards)), desc="verify", unit="shard", disable=not progress):
        if number % AHEAD == 0:
            changed = {k: wrong_digest(shards, k) for k in range(number, min(number + AHEAD, len(shards)))}
            shards.look_at(k for k in changed if not changed[k])
        damage, constant = (changed[number], []) if changed[number] else shard_problems(shards, number)
        found += damage + constant
        if not damage:
            for name, columns in ids.items():
                columns.append(pd.Series(shards.column(number, element(name))))
            if index is not None and not index.part(number).equals(read_shard(shards, number)):
                file = shards.manifest["shards"][number]["file"]
                found.append(Problem(INDEX, f"is not what {file} holds", "remove it, the next reader makes it again"))
    for name, columns in ids.items():
        counts = pd.concat([pd.Series(dtype=object), *columns]).value_counts()
        found += [Problem(f"{name} {text!r}", f"occurs {count} times") for text, count in counts[counts > 1].items()]
    return found


def manifest_problems(store: Path) -> list[Problem]:
    """What is wrong with a readable manifest."""
    try:
        check_seal(store)
    except Damaged as error:
        return [_problem(store, MANIFEST, error)]
    return []


def wrong_digest(shards: Shards, number: int) -> list[Problem]:
    """Whether the file of the `number`-th listed shard is not the one that was listed; nobody should open it."""
    entry = shards.manifest["shards"][number]
    try:
        path = shards.file(number)
        same = not path.is_file() or sha256_file(path) == entry["sha256"]
    except OSError as error:
        return [Problem(entry["file"], f"cannot be read ({one_line(error)})", REPAIR)]
    return [] if same else [Problem(entry["file"], "its sha256 is not the manifest's", REPAIR)]


def shard_problems(shards: Shards, number: int) -> tuple[list[Problem], list[Problem]]:
    """What is wrong within the `number`-th listed shard.

    Returns:
        What makes it unfit for use; and the cells whose feature says nothing, which is no damage (but no network takes
        them well: a range of 0 cannot be scaled).
    """
    file = shards.manifest["shards"][number]["file"]
    try:
        damage, constant = _array_problems(shards, number)
        with damage_named(shards.file(number)):
            damage += _wrong_numbers(shards, number)
            damage += _wrong_rows(shards, number)
        return [Problem(file, what) for what in damage], [Problem(file, what) for what in constant]
    except CellfeatError as error:
        return [_problem(shards.path, file, error)], []


def _problem(store: Path, file: str, error: CellfeatError) -> Problem:
    """An error about a file of the store, whose name it begins with."""
    return Problem(file, error.what.removeprefix(str(store / file)).removeprefix(": "), error.remedy)


def _unlisted(shards: Shards) -> list[str]:
    """Files that the manifest does not list; a writer that is at work lists a shard soon after it is there."""
    found = set(_files(shards.path)) - _listed(shards.manifest)
    deadline = time.monotonic() + LISTING
    while found:
        found -= _listed(read_manifest(shards.path))
        if not found or time.monotonic() > deadline or not _maybe_written(shards.path):
            break
        time.sleep(LISTING / 20)
    return sorted(found & set(_files(shards.path)))


def _files(store: Path) -> Iterator[str]:
    """Names in the folder of shards; those that begin with a dot are a writer's own."""
    folder = store / SHARDS
    yield from (file.name for file in (folder.iterdir() if folder.is_dir() else ()) if not file.name.startswith("."))


def _listed(manifest: dict[str, Any]) -> set[str]:
    return {entry["file"].removeprefix(f"{SHARDS}/") for entry in manifest["shards"]}


def _maybe_written(store: Path) -> bool:
    """Whether a writer is at work, or one was killed: a writer that ends empties its lock."""
    lock = store / LOCK
    return lock.is_file() and lock.stat().st_size > 0


def _array_problems(shards: Shards, number: int) -> tuple[list[str], list[str]]:
    """Cells whose arrays are wrong, and cells of a constant feature; a damaged chunk raises, by its fletcher32."""
    names = shards.column(number, element("cell_id"))
    first = int(shards.ends[number]) - len(names)
    wrong, constant = [], []
    for start in range(0, len(names), BLOCK):
        block = names[start : start + BLOCK]
        rows = np.arange(first + start, first + start + len(block))
        for array in (candidate for candidate in all_elements() if candidate.is_array):
            values = shards.read(array, rows).reshape(len(rows), -1)
            wrong += [f"cell {name!r} has {what}" for name, what in _out_of_bounds(array, values, block)]
            if array.name == "features":
                alike = np.flatnonzero((values[:, :64] == values[:, :1]).all(axis=1) & (values.shape[1] > 1))
                same = alike[(values[alike] == values[alike, :1]).all(axis=1)]
                constant += [f"cell {name!r} has a constant feature" for name in block[same]]
    return wrong, constant


def _wrong_numbers(shards: Shards, number: int) -> Iterator[str]:
    """Rows of the small elements with values out of bounds; texts that are no utf-8 raise."""
    ids = {False: shards.column(number, element("cell_id")), True: shards.column(number, element("images/image_id"))}
    for small in (candidate for candidate in shards.elements(number) if not candidate.is_array):
        values = shards.column(number, small).reshape(-1, len(small.columns))  # texts: that they can be read
        for name, what in _out_of_bounds(small, values, ids[small.of_image]):
            yield f"{'image' if small.of_image else 'cell'} {name!r} has {what}"


def _out_of_bounds(what: Element, values: np.ndarray, names: np.ndarray) -> Iterator[tuple[str, str]]:
    """(name, what is wrong) of the rows of `values` (n, m) that are not finite or leave the element's bounds."""
    if values.dtype.kind == "f":
        for name in names[~finite(values).all(axis=1)]:
            yield name, f"{what.name} that are not finite"
    if what.bounds is not None and len(values):
        lowest, highest = what.bounds
        for name in names[(values.min(axis=1) < lowest) | (values.max(axis=1) > highest)]:
            yield name, f"{what.name} outside {lowest:g} to {highest:g}"


def _wrong_rows(shards: Shards, number: int) -> Iterator[str]:
    def frame(*names: str) -> pd.DataFrame:
        return pd.DataFrame({name.split("/")[-1]: shards.column(number, element(name)) for name in names})

    images = frame("images/cells", "images/width", "images/height")
    images.index = pd.Index(shards.column(number, element("images/image_id")), dtype=object)
    cells = frame("cell_id", "image_id").astype(object)
    if images.index.duplicated().any():
        return  # reported by the check for repeated ids; no cell can be looked up then
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
    sizes = images.loc[cells["image_id"]]
    boxes = shards.column(number, element("boxes")).astype(float)
    fits = box_fits(boxes, sizes["width"].to_numpy(), sizes["height"].to_numpy())
    for name in cells["cell_id"][~fits]:
        yield f"cell {name!r} has a box outside its image"
