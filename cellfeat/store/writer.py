"""Writing a feature store: rows go to one open shard in memory, finished shards never change, every run resumes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cellfeat.core.files import atomic_path, sync_folder
from cellfeat.core.lock import FolderLock
from cellfeat.core.run_record import differences, different
from cellfeat.core.version import __version__
from cellfeat.errors import CannotWrite, CellfeatError, Damaged, one_line
from cellfeat.store import probe
from cellfeat.store.chunks import GZIP_LEVEL
from cellfeat.store.index import Index
from cellfeat.store.indexing import store_index
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.opening import check_place
from cellfeat.store.rows import Block, ImageResult
from cellfeat.store.schema import (
    FORMAT,
    MANIFEST,
    SHARD_FILE,
    SHARDS,
    VERSION,
    Layout,
    element,
    own_folder,
    shard_file,
    shard_number,
)
from cellfeat.store.shard import ShardBuilder
from cellfeat.store.shards import Shards

LAYOUT = ("feature_shape", "feature_dtype", "crop_size")  # keys of the manifest


class StoreWriter:
    """Write images and their cells into a store; on an existing store, go on after its last listed shard.

    A shard is finished when it holds `shard_cells` cells or accounts for `shard_images` images; it is then written and
    listed in the manifest, by a thread, while the next one fills. Until then it is in memory (about 140 MiB for 1,000
    cells of 256 x 14 x 14), so a killed process loses two shards at most. Images in `done` are stored already and must
    not be added again; leave them out and the resumed store equals an uninterrupted one.

    Args:
        path: Folder of the store; made if absent.
        feature_shape: (C, H, W) of one cell's feature.
        crop_size: Side of crops and masks in px.
        provenance: JSON-able dict of what the rows depend on (weights digest, config, datasets ...).
        feature_dtype: "float16" or "float32" on disk.
        shard_cells: Cells after which a shard is finished; the cells of an image stay together.
        shard_images: Images after which a shard is finished, however few cells they hold.
        gzip_level: 1 to 9, used where it saves a quarter of an array's bytes; 0 for no compression.

    Raises:
        CellfeatError: The folder is something else, another writer is at it, or the existing store was made with
            another provenance or layout.
    """

    def __init__(
        self,
        path: str | Path,
        feature_shape: tuple[int, ...],
        crop_size: int,
        provenance: dict[str, Any],
        feature_dtype: str = "float16",
        shard_cells: int = 1000,
        shard_images: int = 4000,
        gzip_level: int = GZIP_LEVEL,
    ) -> None:
        self.path = Path(path)
        self._layout = Layout(tuple(int(size) for size in feature_shape), feature_dtype, crop_size)
        self._shard_cells, self._shard_images, self._gzip_level = shard_cells, shard_images, gzip_level
        self._shard: ShardBuilder | None = None
        self._written: dict[str, Index] = {}  # what the index will say of new shards, 0.2 kB a cell
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "package_version": __version__,
            "feature_shape": list(self._layout.feature_shape),
            "feature_dtype": feature_dtype,
            "crop_size": crop_size,
            "provenance": json.loads(json.dumps(provenance)),  # as it will be read back: tuples are lists
            "shards": [],
        }
        _refuse_other_folder(self.path)
        self._lock = FolderLock(self.path)
        try:
            own_folder(self.path / SHARDS)
            self._manifest = _resume_or_start(self.path, manifest)
            _remove_orphans(self.path, {shard["file"] for shard in self._manifest["shards"]})
            self._done = self._stored_images()
            self._number = 1 + max((shard_number(shard["file"]) for shard in self._manifest["shards"]), default=-1)
        except OSError as error:
            self._lock.close()
            raise _cannot_write(self.path, error) from error
        except BaseException:
            self._lock.close()
            raise
        self._finisher = ThreadPoolExecutor(1, "finish-shard")
        self._finishing: Future[None] | None = None

    @property
    def done(self) -> set[str]:
        """Ids of the images that the store accounts for, the ones added through this writer included."""
        return self._done

    def add(self, image: ImageResult) -> None:
        """Add one image with all its cells; they are stored by descending score as `<image_id>#0`, `#1` ...

        Raises:
            CellfeatError: The image is in the store already or a row has a wrong shape, dtype or value: then nothing
                of the image is stored. Or the disk refused a finished shard: then the writer is closed.
        """
        self._check_new([image.image_id])
        self._open_shard().append(image)
        self._done.add(image.image_id)
        self._commit_if_full()

    def add_block(self, block: Block) -> None:
        """Add images whose cells are packed already, as a store of this layout has them; their names are kept.

        Raises:
            CellfeatError: As `add`.
        """
        self._check_new(block.images["images/image_id"])
        start = 0
        while start < len(block):
            shard = self._open_shard()
            ends = shard.cells + block.part(start, len(block)).ends
            stop = start + int(np.searchsorted(ends, self._shard_cells)) + 1  # with the image that fills the shard
            stop = min(stop, start + self._shard_images - shard.images, len(block))
            part = block.part(start, stop)
            shard.append_block(part)
            self._done.update(part.images["images/image_id"])
            self._commit_if_full()
            start = stop

    def close(self) -> None:
        """Finish the open shard and release the store. Closing twice is harmless."""
        if self._lock.closed:
            return
        try:
            self._commit()
            self._settle()
            store_index(Shards(self.path, self._manifest), self._written)
            self._lock.check()
        finally:
            self._finisher.shutdown()
            self._lock.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self.close()  # also after an error: the images added before it are whole, the next run need not repeat them
        except Exception:  # after an error that one is the cause, and is what the caller gets
            if error is None:
                raise

    def _check_new(self, image_ids: Iterable[str]) -> None:
        if self._lock.closed:
            raise CellfeatError(f"{self.path}: this writer is closed; open another one to add images")
        for image_id in image_ids:
            if image_id in self._done:
                raise CellfeatError(f"image {image_id!r} is in {self.path} already; leave out the images in `done`")

    def _open_shard(self) -> ShardBuilder:
        """The shard that is being filled."""
        if self._shard is None:
            path = self.path / shard_file(self._number)
            self._shard = ShardBuilder(path, self._layout, self._manifest, self._gzip_level)
            self._number += 1
        return self._shard

    def _commit_if_full(self) -> None:
        shard = self._shard
        if shard is not None and (shard.cells >= self._shard_cells or shard.images >= self._shard_images):
            self._commit()

    def _commit(self) -> None:
        """Let the open shard be finished while the next one fills; never two at a time, so they stay in order."""
        self._settle()
        shard, self._shard = self._shard, None
        if shard is not None and shard.images:
            self._finishing = self._finisher.submit(self._finish, shard)

    def _settle(self) -> None:
        """Wait until the shard being finished is."""
        if self._finishing is None:
            return
        try:
            self._finishing.result()
        except Exception as error:
            self._finisher.shutdown()
            self._lock.close()  # the shard's images are lost to this writer: let nobody add more after them
            if isinstance(error, OSError):
                raise _cannot_write(self.path, error) from error
            raise
        self._finishing = None

    def _finish(self, shard: ShardBuilder) -> None:
        """Make a shard part of the store: write, sync, digest, rename, and only then list it."""
        content, known = shard.finish()
        self._lock.check()  # else a store that was moved away would be begun again where it was
        with atomic_path(shard.path) as partial:
            partial.write_bytes(content)
        try:
            probe.trust(shard.path)
            sync_folder(shard.path.parent)
            digest = str(known.digests[0])
            self._manifest["shards"].append(
                {
                    "file": shard.path.relative_to(self.path).as_posix(),
                    "sha256": digest,
                    "cells": shard.cells,
                    "images": shard.images,
                }
            )
            self._written[digest] = known.small()
            self._lock.check()
            write_manifest(self.path, self._manifest)
            self._lock.check()
        except (OSError, CannotWrite):
            shard.path.unlink(missing_ok=True)  # nobody lists it, and it fills the disk
            raise

    def _stored_images(self) -> set[str]:
        shards, image_id = Shards(self.path, self._manifest, indexed=True), element("images/image_id")
        if shards.index is not None:
            return set(shards.index.images[image_id.name][:])
        shards.look_at(range(len(shards)))
        return {name for number in range(len(shards)) for name in shards.column(number, image_id)}


def _resume_or_start(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the existing store, if it was made as `wanted` says; else a new store with `wanted` written.

    A store without shards holds nothing: a run that was stopped before its first one does not block a corrected one.
    """
    if (path / MANIFEST).exists() and (existing := read_manifest(path))["shards"]:
        before, now = ({**{key: made[key] for key in LAYOUT}, **made["provenance"]} for made in (existing, wanted))
        if changed := list(differences(before, now)):
            raise different(path, changed)
        for entry in existing["shards"]:
            check_place(path, entry)  # what is listed counts as done
        return {**existing, "version": VERSION}  # what is added to an older store is of this version
    (path / SHARDS).mkdir(exist_ok=True)
    write_manifest(path, wanted)
    return wanted


def _refuse_other_folder(path: Path) -> None:
    """Leave alone, without even a lock in it, a folder that is neither a store nor empty."""
    try:
        if not path.is_dir() or (path / MANIFEST).exists():
            return
        if any(SHARD_FILE.fullmatch(f"{SHARDS}/{file.name}") for file in (path / SHARDS).glob("*")):
            raise Damaged(
                f"{path}: holds shards but no {MANIFEST}",
                "restore it, rebuild it by `cellfeat verify --repair`, or choose another folder",
            )
        if any(file.name != SHARDS and not file.name.startswith(".") for file in path.iterdir()):
            raise CellfeatError(f"{path}: not empty and not a feature store; choose another folder")
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(f"{path}: cannot write ({one_line(error)})", "make room or get permission, and run again")


_PARTIAL = re.compile(r"\.part-\d{5,}\.h5\.\d+\.partial")  # as cellfeat.core.files.atomic_path names them


def _remove_orphans(path: Path, listed: set[str]) -> None:
    """Remove what a killed writer left behind; files that are not of the store's own naming are not touched."""
    for file in (path / SHARDS).glob("*"):
        name = f"{SHARDS}/{file.name}"
        unlisted = SHARD_FILE.fullmatch(name) and name not in listed
        if unlisted or _PARTIAL.fullmatch(file.name):
            file.unlink()
    for file in path.glob(f".{MANIFEST}.*.partial"):
        file.unlink()
