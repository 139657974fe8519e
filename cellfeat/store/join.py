"""Several stores of one dump, written side by side, made one: their shards under one manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cellfeat.core.files import atomic_path, sha256_file
from cellfeat.core.lock import FolderLock
from cellfeat.core.run_record import differences, different
from cellfeat.errors import DifferentInputs
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.schema import MANIFEST, SHARDS, own_folder, shard_file

OWN = ("shards", "sha256")  # keys of a manifest in which the parts of one dump differ


def join_parts(parts: Sequence[Path], output: Path, lock: FolderLock | None = None) -> None:
    """Make a store at `output` of the shards of `parts`, in their order.

    On one disk shards are linked, not copied. Until the manifest is written at the end `output` is no store, and
    joining may be begun again. A store that was joined from the same parts already is left as it is.

    Args:
        parts: Folders of the stores to join.
        output: Folder of the joined store.
        lock: The lock of `output`, where the caller holds it already.

    Raises:
        Busy: `output` or a part is being written.
        DifferentInputs: The parts were made from different inputs, or `output` holds something else.
    """
    with ExitStack() as locks:
        if lock is None:
            lock = locks.enter_context(FolderLock(output))
        for part in parts:
            locks.enter_context(FolderLock(part))
        joined, sources = _joined(parts)
        if (output / MANIFEST).exists():
            before, now = (dict(made, sha256="") for made in (read_manifest(output), joined))
            if changed := list(differences(before, now)):
                raise different(output, changed)
            return
        own_folder(output / SHARDS).mkdir(exist_ok=True)
        for source, entry in zip(sources, joined["shards"], strict=True):
            _link(source, output / entry["file"], entry["sha256"])
        lock.check()
        write_manifest(output, joined)
        lock.check()


def _joined(parts: Sequence[Path]) -> tuple[dict[str, Any], list[Path]]:
    """The manifest of the whole, and where each of its shards is now."""
    manifests = [read_manifest(part) for part in parts]
    common = {key: value for key, value in manifests[0].items() if key not in OWN}
    shards: list[dict[str, Any]] = []
    sources: list[Path] = []
    for part, manifest in zip(parts, manifests, strict=True):
        if {key: value for key, value in manifest.items() if key not in OWN} != common:
            raise DifferentInputs(f"{part}: was made from other inputs than {parts[0]}", "remove both and dump again")
        for shard in manifest["shards"]:
            shards.append({**shard, "file": shard_file(len(shards))})
            sources.append(part / shard["file"])
    return {**common, "shards": shards}, sources


def _link(source: Path, target: Path, digest: str) -> None:
    if os.path.lexists(target):  # of an interrupted join, or of a store that lost its manifest
        if target.is_symlink() or sha256_file(target) != digest:
            raise DifferentInputs(f"{target}: is of another store, which has no {MANIFEST}", "choose another folder")
        return
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
