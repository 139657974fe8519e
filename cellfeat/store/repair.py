"""Repairing a store: damaged shards are set aside, sound ones stay, and the next dump computes the rest again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from cellfeat.core.files import sha256_file
from cellfeat.core.json_text import parse_json
from cellfeat.core.lock import FolderLock
from cellfeat.errors import CannotWrite, CellfeatError, DifferentInputs, NewerFormat, one_line
from cellfeat.store.guard import H5PY_ERRORS, own_dataset, text_attribute
from cellfeat.store.index import INDEX
from cellfeat.store.manifest import check_seal, read_manifest, write_manifest
from cellfeat.store.opening import open_file
from cellfeat.store.schema import (
    FORMAT,
    MANIFEST,
    SHARD_FILE,
    SHARDS,
    VERSION,
    check_format,
    element,
    own_folder,
)
from cellfeat.store.shards import Shards
from cellfeat.store.verify import Problem, shard_problems, wrong_digest

DROPPED = "dropped"  # folder in the store that damaged shards are moved to


@dataclass
class Repair:
    """What a repair did.

    Attributes:
        rebuilt: Why the manifest was rebuilt from the shards; "" where it was sound.
        dropped: Shard → what was wrong with it. The file lies in `dropped/` now.
        images: How many images the dropped shards accounted for; they count as not done.
        cells: How many cells they held.
    """

    rebuilt: str = ""
    dropped: dict[str, str] = field(default_factory=dict)
    images: int = 0
    cells: int = 0

    def lines(self) -> Iterator[str]:
        """The repair in words, one line each."""
        if self.rebuilt:
            yield f"{MANIFEST} rebuilt from the shards: {self.rebuilt}"
        for file, problem in self.dropped.items():
            yield f"{file} set aside in {DROPPED}/: {problem}"
        if self.dropped:
            yield f"{self.images} images with {self.cells} cells have to be computed again: run the dump"
        elif not self.rebuilt:
            yield "nothing to repair"


def repair(path: str | Path) -> Repair:
    """Take damaged shards out of the store at `path`; their images count as not done, and the next dump
    computes them.

    A manifest that is lost, damaged or changed is rebuilt from the shards, which each state their provenance. Their
    numbers are then checked by fletcher32, since their digests were in the manifest. Nothing is deleted.

    Raises:
        CellfeatError: Not a store, another writer is at it, a newer version, or shards of different provenance.
    """
    path = Path(path)
    if not (path / MANIFEST).exists() and not (path / SHARDS).is_dir():
        read_manifest(path)  # says what it is instead
    lock = FolderLock(path)
    try:
        own_folder(path / SHARDS)
        report = Repair()
        manifest = _manifest(path, report)
        shards = Shards(path, manifest)
        kept, seen = [], set[str]()
        for number, entry in enumerate(manifest["shards"]):
            damage = wrong_digest(shards, number) or shard_problems(shards, number)[0]
            images = [] if damage else shards.column(number, element("images/image_id")).tolist()
            if not damage and not seen.isdisjoint(images):
                damage = [
                    Problem(entry["file"], f"image {min(seen.intersection(images))!r} is in an earlier shard too")
                ]
            if damage:
                _set_aside(path, entry, damage[0].what, report)
            else:
                kept.append(entry)
                seen.update(images)
        lock.check()
        if (path / INDEX).is_file():
            (path / INDEX).unlink()  # it may be wrong; the next reader makes it of the sound shards
        if report.dropped or report.rebuilt:
            write_manifest(path, {**manifest, "version": VERSION, "shards": kept})
        return report
    except OSError as error:
        raise CannotWrite(f"{path}: cannot repair ({one_line(error)})", "make room and run again") from None
    finally:
        lock.close()


def _manifest(path: Path, report: Repair) -> dict[str, Any]:
    """The manifest, or one made from the shards where it cannot be trusted."""
    try:
        manifest = read_manifest(path)
        check_seal(path)
        return manifest
    except NewerFormat:
        raise
    except CellfeatError as error:
        report.rebuilt = error.what.removeprefix(f"{path}{os.sep}")
        return _rebuilt(path, report)


def _rebuilt(path: Path, report: Repair) -> dict[str, Any]:
    manifest: dict[str, Any] = {}
    for file in sorted((path / SHARDS).glob("part-*.h5")):
        name = f"{SHARDS}/{file.name}"
        if not SHARD_FILE.fullmatch(name):
            continue
        entry = {"file": name, "sha256": sha256_file(file), "cells": 0, "images": 0}
        try:
            stated = _stated(file, entry)
        except NewerFormat:
            raise
        except (CellfeatError, *H5PY_ERRORS) as error:
            what = error.what.removeprefix(f"{file}: ") if isinstance(error, CellfeatError) else one_line(error)
            _set_aside(path, entry, what, report)
            continue
        shards = manifest.pop("shards", [])
        stated["package_version"] = manifest.get("package_version", stated["package_version"])  # of the first shard
        if manifest and manifest != stated:
            differing = next(key for key in stated if stated[key] != manifest[key])
            raise DifferentInputs(
                f"{path}: {shards[0]['file']} and {name} state different {differing}", f"restore {MANIFEST}"
            )
        manifest = {**stated, "shards": [*shards, entry]}
    if not manifest:
        raise CellfeatError(f"{path}: no sound shard says what the store is; dump into another folder")
    return manifest


def _stated(file: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The manifest's keys as one shard states them; its counts go into `entry`. The guard checks them afterwards."""
    with open_file(file, "dump again") as handle:
        check_format(file, text_attribute(handle, "format"), text_attribute(handle, "version"), FORMAT, VERSION)
        features, crops = own_dataset(handle, "features"), own_dataset(handle, "crops")
        entry["cells"] = int(features.shape[0])
        entry["images"] = int(own_dataset(handle, "images/image_id").shape[0])
        return {
            "format": FORMAT,
            "version": VERSION,
            "package_version": text_attribute(handle, "package_version") or "unknown",
            "feature_shape": [int(size) for size in features.shape[1:]],
            "feature_dtype": str(features.dtype),
            "crop_size": int(crops.shape[1]),
            "provenance": parse_json(_provenance(handle), f"{file}: provenance"),
        }


def _provenance(handle: h5py.File) -> bytes:
    """The provenance that a shard states, as JSON."""
    return (text_attribute(handle, "provenance") or "{}").encode("utf-8", "backslashreplace")


def _set_aside(path: Path, entry: dict[str, Any], problem: str, report: Repair) -> None:
    file = path / entry["file"]
    if file.is_symlink() or file.exists():
        target = own_folder(path / DROPPED) / file.name
        target.parent.mkdir(exist_ok=True)
        while os.path.lexists(target):  # of an earlier repair
            target = target.with_name(f"{target.stem}+{target.suffix}")
        os.replace(file, target)
    report.dropped[entry["file"]] = problem
    report.images += entry["images"]
    report.cells += entry["cells"]
