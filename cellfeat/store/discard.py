"""Taking all rows out of a store that turned out to be worth nothing: a corrected run can begin in its folder."""

from __future__ import annotations

from pathlib import Path

from cellfeat.core.lock import FolderLock
from cellfeat.store.index import INDEX
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.schema import own_folder


def discard_rows(path: Path) -> None:
    """Leave an empty store at `path`, which a writer of any inputs may begin anew.

    Raises:
        Busy: Another process is writing it.
    """
    with FolderLock(path):
        manifest = read_manifest(path)
        files = [path / shard["file"] for shard in manifest["shards"]]
        write_manifest(path, {**manifest, "shards": []})  # first: what stays behind the next writer removes
        (path / INDEX).unlink(missing_ok=True)
        for file in files:
            own_folder(file.parent)
            file.unlink(missing_ok=True)
