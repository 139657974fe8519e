"""Hostile stores: refused by a CellfeatError, before their data is read."""

import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_helpers import SHAPE, SHARD, SIDE, change

from cellfeat.errors import CellfeatError
from cellfeat.store import Store, StoreWriter, guard, read_embeddings
from cellfeat.store.manifest import read_manifest, write_manifest


def replaced(name, **options):
    """An edit that puts another dataset in the place of `name`."""

    def edit(handle):
        old = handle[name]
        form = {"shape": old.shape, "dtype": old.dtype, **options}
        del handle[name]
        handle.create_dataset(name, **form)

    return edit


def external_link(handle):
    del handle["crops"]
    handle["crops"] = h5py.ExternalLink("/etc/hosts", "/crops")


def linked_group(handle):
    handle.move("images", "elsewhere")
    handle["images"] = h5py.SoftLink("/elsewhere")


def virtual(handle):
    shape = handle["crops"].shape
    del handle["crops"]
    layout = h5py.VirtualLayout(shape, "uint8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "crops", shape)
    handle.create_virtual_dataset("crops", layout)


def external_storage(handle):
    size = handle["scores"].nbytes
    replaced("scores", external=[("/etc/hosts", 0, size)])(handle)


@cache
def bomb() -> bytes:
    """Half a GiB of zeros, packed."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()


def inflating_chunk(handle):
    """A chunk whose gzip stream goes on for 2 GiB."""
    shape = handle["crops"].shape
    del handle["crops"]
    crops = handle.create_dataset("crops", shape, "uint8", chunks=(1, *shape[1:]), compression="gzip")
    for row in range(shape[0]):
        crops.id.write_direct_chunk((row, 0, 0, 0), bomb() if row == 0 else zlib.compress(bytes(SIDE * SIDE * 3)))


def repeated_text(handle):
    """Every cell's label refers to one text of 64 MiB: no larger on disk, larger than the memory when read."""
    count = handle["label"].shape[0]
    replaced("label", data=np.array(["x" * (1 << 26)] + ["y"] * (count - 1), object), dtype=h5py.string_dtype())(handle)
    offset = handle["label"].id.get_offset()
    handle.flush()
    with open(handle.filename, "r+b") as raw:
        raw.seek(offset)
        first = raw.read(16)
        raw.seek(offset)
        raw.write(first * count)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (external_link, "crops is a ExternalLink"),
        (linked_group, "images/image_id is a SoftLink"),
        (virtual, "takes its data from other files"),
        (external_storage, "takes its data from other files"),
        (
            replaced("features", shape=(10**9, *SHAPE), dtype="f2", chunks=(1, *SHAPE)),
            "features is .1000000000, 4, 3, 3",
        ),
        (replaced("features", dtype="f8"), "float64, should be"),
        (replaced("features"), "has chunks of None, should be one cell a chunk"),
        (replaced("features", chunks=(1, *SHAPE)), "lacks a part of its data .0 of 6 chunks"),
        (replaced("scores"), "lacks a part of its data"),
        (replaced("scores", chunks=(1 << 22,), maxshape=(None,)), "has chunks of 16777216 bytes"),
        (replaced("features", chunks=(1, *SHAPE), compression="lzf"), "has filter 32000"),
        (replaced("label", chunks=(1,)), "store texts plainly"),
        (inflating_chunk, "has chunks of 768 bytes, stored in up to"),
        (repeated_text, "bytes of text"),
        (lambda handle: handle["masks"].attrs.update(encoding_version="2.0"), "encoded in version 2.0"),
    ],
)
def test_hostile_shards_are_refused(path, edit, words):
    change(path, edit)
    for look in (lambda store: store.table(), lambda store: store.read("features", [0]), lambda store: store.images()):
        with pytest.raises(CellfeatError, match=words) as error:
            look(Store(path))
        assert "\n" not in str(error.value)
    assert len(Store(path).verify()) == 1
    with pytest.raises(CellfeatError, match=words):
        StoreWriter(path, SHAPE, SIDE, read_manifest(path)["provenance"])


def test_texts_that_are_no_utf8_are_damage(path):
    def edit(handle):
        handle["label"][0] = b"\xff\xfe"

    change(path, edit)
    with pytest.raises(CellfeatError, match=r"part-00000\.h5: damaged \(.*utf-8.*\); restore it"):
        Store(path).table()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak memory")
def test_a_bomb_costs_no_memory(path):
    change(path, inflating_chunk)
    change(path, repeated_text)
    code = (
        "import sys; from cellfeat.store import Store\n"
        "try: Store(sys.argv[1]).table()\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    name, kilobytes = run.stdout.split()
    assert name == "Damaged"
    assert int(kilobytes) < 300_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feature_shape": [10**6, 1000, 1000]}, "bytes a cell"),
        ({"feature_shape": [4, 3, "3"]}, "three positive sizes"),
        ({"feature_shape": 7}, "its feature_shape is no list"),
        ({"crop_size": 10**9}, "bytes a cell"),
        ({"crop_size": True}, "positive number of pixels"),
        ({"feature_dtype": "object"}, "choose float16 or float32"),
        ({"provenance": []}, "its provenance is no dict"),
        ({"shards": {"file": 1}}, "lacks 'shards', a list"),
        ({"shards": [7]}, "names no file"),
        ({"shards": [{"file": "shards/../../secret.h5"}]}, "no shard name"),
        ({"shards": [{"file": "/etc/passwd"}]}, "no shard name"),
        ({"shards": [{"file": "shards/part-00000.h5", "sha256": "0"}]}, "not 64 hex digits"),
        ({"shards": [{"file": SHARD, "sha256": "0" * 64, "cells": 10**12, "images": 1}]}, "states 1000000000000 cells"),
        ({"shards": [{"file": SHARD, "sha256": "0" * 64, "cells": -1, "images": 1}]}, "states -1 cells"),
        ({"shards": [{"file": SHARD, "sha256": "0" * 64, "cells": 1, "images": 1}] * 2}, "out of order"),
    ],
)
def test_hostile_manifests_are_refused(path, changes, words):
    write_manifest(path, {**read_manifest(path), **changes})
    with pytest.raises(CellfeatError, match=words) as error:
        Store(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"format": ' + "9" * 5000 + "}"])
def test_manifests_beyond_measure_are_refused(path, text):
    (path / "manifest.json").write_text(text)
    with pytest.raises(CellfeatError, match="not a JSON file"):
        Store(path)


def test_shards_may_not_lead_out_of_the_store(tmp_path, path):
    (path / SHARD).rename(tmp_path / "elsewhere.h5")
    (path / SHARD).symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(CellfeatError, match="leads out of the store"):
        Store(path).table()


def test_more_than_the_memory_is_not_read(path, monkeypatch):
    monkeypatch.setattr(guard, "available_memory", lambda: 100)
    monkeypatch.setattr(guard, "UNASKED", 0)
    with pytest.raises(CellfeatError, match="read fewer rows at a time"):
        Store(path).read("crops", slice(None))


def test_hostile_embeddings_are_refused(tmp_path):
    file = tmp_path / "e.h5"
    with h5py.File(file, "w") as handle:
        handle.attrs.update({"format": "cellfeat-embeddings", "version": "1.0"})
        handle.create_dataset("z", (10**9, 50), "f4", chunks=(1000, 50), compression="gzip")
        handle.create_dataset("cell_id", (10**9,), h5py.string_dtype())
    with pytest.raises(CellfeatError, match=r"lacks a part of its data .*embed again"):
        read_embeddings(file)
    with h5py.File(file, "r+") as handle:
        del handle["z"]
        handle["z"] = h5py.ExternalLink("other.h5", "z")
    with pytest.raises(CellfeatError, match="z is a ExternalLink"):
        read_embeddings(file)


def test_every_element_tells_its_encoding(path):
    with h5py.File(path / SHARD) as handle:
        assert {item.attrs["encoding_version"] for item in handle.values() if isinstance(item, h5py.Dataset)} == {"1.0"}
