"""Several stores of one dump, written side by side, made one: their shards under one manifest, nothing copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellfeat.errors import DifferentInputs
from cellfeat.store.manifest import read_manifest, write_manifest
from cellfeat.store.schema import SHARDS, shard_file


def join_parts(parts: Sequence[Path], output: Path) -> None:
    """Make a store at `output` of the shards of `parts`, in their order; `output` is on the same disk as they.

    Until the manifest is written at the end `output` is no store, and joining may be begun anew.

    Raises:
        DifferentInputs: The parts were made from different inputs.
    """
    manifests = [read_manifest(part) for part in parts]
    own = ("shards", "sha256")  # what differs between the parts of one dump
    common = {key: value for key, value in manifests[0].items() if key not in own}
    shards: list[dict[str, Any]] = []
    for part, manifest in zip(parts, manifests, strict=True):
        if {key: value for key, value in manifest.items() if key not in own} != common:
            raise DifferentInputs(f"{part}: was made from other inputs than {parts[0]}", "remove both and dump again")
        for shard in manifest["shards"]:
            entry = {**shard, "file": shard_file(len(shards))}
            target = output / entry["file"]
            (output / SHARDS).mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(part / shard["file"], target)
            shards.append(entry)
    write_manifest(output, {**common, "shards": shards})
