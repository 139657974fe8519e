"""The manifest: which shards a store has. Read with care, since it may be damaged or hostile; written sealed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from cellfeat.core.files import read_json, write_text
from cellfeat.errors import CellfeatError, Damaged
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
RESTORE = "restore it from a copy, or run `cellfeat verify --repair`, which rebuilds it from the shards"


def read_manifest(store: Path) -> dict[str, Any]:
    """Read and check the manifest of the store in folder `store`.

    Raises:
        Damaged: The manifest is missing or broken.
        NewerFormat: A newer major version wrote it.
        CellfeatError: The folder is not a store.
    """
    path = store / MANIFEST
    if not store.is_dir():
        what = "is a file" if store.exists() else "does not exist"
        raise CellfeatError(f"{store}: {what}; give the folder of a feature store (the one that holds {MANIFEST})")
    if not path.is_file():
        if (store / SHARDS).is_dir():
            raise Damaged(f"{store}: {MANIFEST} is missing", RESTORE)
        raise CellfeatError(f"{store}: not a feature store (no {MANIFEST}); give the folder that the dump wrote")
    if path.stat().st_size > MAX_BYTES:
        raise Damaged(f"{path}: larger than any manifest ({path.stat().st_size} bytes)", RESTORE)
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise Damaged(f"{path}: not a manifest (no JSON object)", RESTORE)
    check_format(path, manifest.get("format"), manifest.get("version"), FORMAT, VERSION)
    manifest.setdefault("package_version", "unknown")
    for key, kind in {"feature_shape": list, "feature_dtype": str, "crop_size": int, "provenance": dict}.items():
        if key not in manifest:
            raise Damaged(f"{path}: lacks {key!r}", RESTORE)
        if not isinstance(manifest[key], kind):
            raise Damaged(f"{path}: its {key} is no {kind.__name__}", RESTORE)
    try:
        Layout.of(manifest)
    except CellfeatError as error:
        raise Damaged(f"{path}: {error.what}", error.remedy) from None
    if not isinstance(manifest.get("shards"), list):
        raise Damaged(f"{path}: lacks 'shards', a list", RESTORE)
    last = -1
    for shard in manifest["shards"]:
        _check_entry(path, shard)
        if shard_number(shard["file"]) <= last:
            raise Damaged(f"{path}: lists {shard['file']} out of order", RESTORE)
        last = shard_number(shard["file"])
    return manifest


def write_manifest(store: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest of `store` atomically, with a seal by which a later change of any byte is noticed."""
    first = {"format": manifest["format"], "version": manifest["version"], "sha256": UNSEALED}
    rest = {key: value for key, value in manifest.items() if key not in first}
    text = json.dumps({**first, **rest}, indent=2, ensure_ascii=False) + "\n"
    write_text(
        store / MANIFEST,
        text.replace(UNSEALED, hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(), 1),
    )


def check_seal(store: Path) -> None:
    """Check the seal of a readable manifest; format 1.0 had none.

    Raises:
        Damaged: The manifest was changed after it was written.
    """
    path = store / MANIFEST
    text = path.read_bytes()  # once: a writer may replace the file between two looks
    manifest = json.loads(text)
    seal = manifest.get("sha256")
    if seal is None and manifest.get("version") == "1.0":
        return
    if not isinstance(seal, str) or not re.fullmatch(r"[0-9a-f]{64}", seal):
        raise Damaged(f"{path}: has no seal", RESTORE)
    if hashlib.sha256(text.replace(seal.encode(), UNSEALED.encode(), 1)).hexdigest() != seal:
        raise Damaged(f"{path}: was changed after it was written (its sha256 is another)", RESTORE)


def _check_entry(path: Path, shard: Any) -> None:
    if not isinstance(shard, dict) or not isinstance(shard.get("file"), str):
        raise Damaged(f"{path}: an entry of its shards names no file", RESTORE)
    shard_number(shard["file"])
    if not re.fullmatch(r"[0-9a-f]{64}", str(shard.get("sha256"))):
        raise Damaged(f"{path}: the sha256 of {shard['file']} is not 64 hex digits", RESTORE)
    for key in ("cells", "images"):
        count = shard.get(key)
        if type(count) is not int or not 0 <= count <= MAX_SHARD_ROWS:
            raise Damaged(f"{path}: {shard['file']} states {count!r} {key}", RESTORE)
