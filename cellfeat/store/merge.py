"""Several stores of one dump, written side by side, made one: their shards under one manifest, nothing copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cellfeat.errors import CellfeatError
from cellfeat.files import write_json
from cellfeat.store.schema import MANIFEST, SHARDS, read_manifest, shard_file


def merge_stores(parts: Sequence[Path], output: Path) -> None:
    """Make a store at `output` of the shards of `parts`, in their order; `output` is on the same disk as they.

    Until the manifest is written at the end `output` is no store, and merging may be begun anew.

    Raises:
        CellfeatError: The parts were made from different inputs.
    """
    manifests = [read_manifest(part) for part in parts]
    merged = {**manifests[0], "shards": []}
    for part, manifest in zip(parts, manifests, strict=True):
        if {**manifest, "shards": []} != {**merged, "shards": []}:
            raise CellfeatError(f"{part}: was made from other inputs than {parts[0]}; remove both and dump again")
        for shard in manifest["shards"]:
            entry = {**shard, "file": shard_file(len(merged["shards"]))}
            target = output / entry["file"]
            (output / SHARDS).mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(part / shard["file"], target)
            merged["shards"].append(entry)
    write_json(output / MANIFEST, merged)
