"""The manifest: which shards a store has. Read with care, since it may be damaged or hostile; written sealed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from cellfeat.core.files import read_json, write_text
from cellfeat.errors import CellfeatError
from cellfeat.store.schema import (
    FORMAT,
    MANIFEST,
    MAX_SHARD_ROWS,
    SHARDS,
    VERSION,
    Layout,
    check_format,
    shard_number,
)

MAX_BYTES = 1 << 26  # of a manifest: some 300,000 shards
UNSEALED = "0" * 64
RESTORE = "restore it from a copy, or run `cellfeat verify --repair`, which makes it anew from the shards"


def read_manifest(store: Path) -> dict[str, Any]:
    """Read and check the manifest of the store in folder `store`.

    Raises:
        CellfeatError: The folder is not a store, or its manifest is missing, broken or of a newer major version.
    """
    path = store / MANIFEST
    if not store.is_dir():
        what = "is a file" if store.exists() else "does not exist"
        raise CellfeatError(f"{store}: {what}; give the folder of a feature store (the one that holds {MANIFEST})")
    if not path.is_file():
        if (store / SHARDS).is_dir():
            raise CellfeatError(f"{store}: {MANIFEST} is missing; {RESTORE}")
        raise CellfeatError(f"{store}: not a feature store (no {MANIFEST}); give the folder that the dump wrote")
    if path.stat().st_size > MAX_BYTES:
        raise CellfeatError(f"{path}: larger than any manifest ({path.stat().st_size} bytes); {RESTORE}")
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise CellfeatError(f"{path}: not a manifest (no JSON object); {RESTORE}")
    check_format(path, manifest.get("format"), manifest.get("version"), FORMAT, VERSION)
    manifest.setdefault("package_version", "unknown")
    for key, kind in {"feature_shape": list, "feature_dtype": str, "crop_size": int, "provenance": dict}.items():
        if key not in manifest:
            raise CellfeatError(f"{path}: lacks {key!r}; {RESTORE}")
        if not isinstance(manifest[key], kind):
            raise CellfeatError(f"{path}: its {key} is no {kind.__name__}; {RESTORE}")
    try:
        Layout.of(manifest)
    except CellfeatError as error:
        raise CellfeatError(f"{path}: {error}") from None
    if not isinstance(manifest.get("shards"), list):
        raise CellfeatError(f"{path}: lacks 'shards', a list; {RESTORE}")
    last = -1
    for shard in manifest["shards"]:
        _check_entry(path, shard)
        if shard_number(shard["file"]) <= last:
            raise CellfeatError(f"{path}: lists {shard['file']} out of order; {RESTORE}")
        last = shard_number(shard["file"])
    return manifest


def write_manifest(store: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest of `store` atomically, with a seal by which a later change of any byte is noticed."""
    first = {"format": manifest["format"], "version": manifest["version"], "sha256": UNSEALED}
    rest = {key: value for key, value in manifest.items() if key not in first}
    text = json.dumps({**first, **rest}, indent=2, ensure_ascii=False) + "\n"
    write_text(store / MANIFEST, text.replace(UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1))


def seal_problem(store: Path) -> str | None:
    """What is wrong with the seal of a readable manifest; None where it holds, or where format 1.0 had none."""
    path = store / MANIFEST
    manifest = read_json(path)
    seal = manifest.get("sha256")
    if seal is None and manifest.get("version") == "1.0":
        return None
    text = path.read_bytes()
    if not isinstance(seal, str) or not re.fullmatch(r"[0-9a-f]{64}", seal):
        return f"{MANIFEST}: has no seal; {RESTORE}"
    if hashlib.sha256(text.replace(seal.encode(), UNSEALED.encode(), 1)).hexdigest() != seal:
        return f"{MANIFEST}: was changed after it was written (its sha256 is another); {RESTORE}"
    return None


def _check_entry(path: Path, shard: Any) -> None:
    if not isinstance(shard, dict) or not isinstance(shard.get("file"), str):
        raise CellfeatError(f"{path}: an entry of its shards names no file; {RESTORE}")
    shard_number(shard["file"])
    if not re.fullmatch(r"[0-9a-f]{64}", str(shard.get("sha256"))):
        raise CellfeatError(f"{path}: the sha256 of {shard['file']} is not 64 hex digits; {RESTORE}")
    for key in ("cells", "images"):
        count = shard.get(key)
        if type(count) is not int or not 0 <= count <= MAX_SHARD_ROWS:
            raise CellfeatError(f"{path}: {shard['file']} states {count!r} {key}; {RESTORE}")
