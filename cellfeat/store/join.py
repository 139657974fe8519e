"""Several stores of one dump, written side by side, made one: their shards under one manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellfeat.core.files import atomic_path, sha256_file, sync_folder
from cellfeat.core.lock import FolderLock
from cellfeat.core.run_record import differences, different
from cellfeat.errors import Damaged, DifferentInputs
from cellfeat.store.indexing import store_index
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.schema import MANIFEST, SHARDS, own_folder, shard_file
from cellfeat.store.shards import Shards

OWN = ("shards", "sha256")  # keys of a manifest in which the parts of one dump differ


def join_parts(parts: Sequence[Path], output: Path, lock: FolderLock) -> None:
    """Make a store at `output` of the shards of `parts`, in their order; the parts are nothing afterwards.

    Shards are moved, or copied from another file system. Until the manifest is written at the end `output` is no store,
    and joining may be begun again. A store that was joined from the same parts already is left as it is.

    Args:
        parts: Folders of stores that nobody writes to any more.
        output: Folder of the joined store.
        lock: The lock of `output`.

    Raises:
        DifferentInputs: The parts were made from different inputs, or `output` holds something else.
        Damaged: A shard of a part is missing, or was damaged when it was copied.
    """
    joined, sources = _joined(parts)
    if (output / MANIFEST).exists() and (standing := read_manifest(output))["shards"]:
        before, now = (dict(made, sha256="") for made in (standing, joined))
        if changed := list(differences(before, now)):
            raise different(output, changed)
        return
    own_folder(output / SHARDS).mkdir(exist_ok=True)
    for source, entry in zip(sources, joined["shards"], strict=True):
        _move(source, output / entry["file"], entry["sha256"])
    sync_folder(output / SHARDS)
    lock.check()
    write_manifest(output, joined)
    lock.check()
    store_index(Shards(output, joined))


def _joined(parts: Sequence[Path]) -> tuple[dict[str, Any], list[Path]]:
    """The manifest of the whole, and where each of its shards was."""
    manifests = [read_manifest(part) for part in parts]
    common = {key: value for key, value in manifests[0].items() if key not in OWN}
    shards: list[dict[str, Any]] = []
    sources: list[Path] = []
    for part, manifest in zip(parts, manifests, strict=True):
        own = {key: value for key, value in manifest.items() if key not in OWN}
        if changed := list(differences(own, common)):
            raise different(part, changed, f"{parts[0]} with", "remove it and dump it again")
        for shard in manifest["shards"]:
            shards.append({**shard, "file": shard_file(len(shards))})
            sources.append(part / shard["file"])
    return {**common, "shards": shards}, sources


def _move(source: Path, target: Path, digest: str) -> None:
    if os.path.lexists(target):  # of an interrupted join, or of a store that lost its manifest
        if target.is_symlink() or sha256_file(target) != digest:
            raise DifferentInputs(f"{target}: is of another store, which has no {MANIFEST}", "choose another folder")
        return
    again = f"remove {source.parents[1]} and dump it again"
    if not source.is_file():
        raise Damaged(f"{source}: is missing", again)
    try:
        source.rename(target)
    except OSError:  # another file system
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
            if sha256_file(partial) != digest:
                raise Damaged(f"{source}: is not what was written", again) from None
