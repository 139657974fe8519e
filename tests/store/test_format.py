"""The format as written down: the document's example, and a store of version 1.0 that must stay readable."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_helpers import smear, write, write_frozen

from cellfeat.store import Store
from cellfeat.store.schema import ELEMENTS, VERSION

DOCUMENT = (Path(__file__).parents[2] / "docs/store-format.md").read_text(encoding="utf-8")
FROZEN = Path(__file__).parent / "data"


def test_example_reads_a_store_without_cellfeat(tmp_path):
    store = Store(write(tmp_path / "my-store", smear()))
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    cells = [line for line in lines if "could not be read" not in line]
    assert [line.split()[0] for line in cells] == store.table()["cell_id"].tolist()
    assert "south/005.jpg could not be read: truncated file" in lines


def test_document_names_every_dataset_and_the_version():
    assert f"version {VERSION}" in DOCUMENT.splitlines()[0]
    for name in (element.name for element in ELEMENTS):
        assert f"`{name}`" in DOCUMENT


def test_chunks_and_digest_are_as_documented(path):
    store = Store(path)
    with h5py.File(path / "shards/part-00000.h5") as shard:
        for name in ("features", "crops", "masks"):
            assert shard[name].chunks == (1, *shard[name].shape[1:])
            assert (shard[name].compression, shard[name].shuffle, shard[name].fletcher32) == ("gzip", True, True)
        assert json.loads(shard.attrs["provenance"]) == store.provenance
    content = [store.provenance, [shard["sha256"] for shard in store.manifest["shards"]]]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert store.digest == hashlib.sha256(text.encode()).hexdigest()


def test_fixed_length_strings_are_read(path):
    with h5py.File(path / "shards/part-00000.h5", "r+") as shard:
        texts = shard["label"].asstr()[:]
        del shard["label"]
        fixed = np.array([text.encode() for text in texts], h5py.string_dtype("utf-8", 20))
        shard.create_dataset("label", data=fixed)
    assert Store(path).table()["label"][: len(texts)].tolist() == texts.tolist()


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        ("1.0", "9572b2eda9fc3bb45c4c067fdb20a96b9843388b531483bffa7452111d351571"),
        ("1.1", "879d9b190588f8990814c67bc1728639bc12d511eea271f2bb58e7e390876d80"),
        ("1.2", "4a84641aacb66b248ba102b8d0caf9bf92dcf2732f70ab1ad4c5dc351eaac4f2"),
        ("1.3", "e6b1c9f63be3dd5067da1caf58b88323fefc206e80ed4f47d68452a5d81a2914"),
    ],
)
def test_frozen_stores_are_read(version, digest):
    store = Store(FROZEN / f"store-{version}")
    assert store.manifest["version"] == version
    assert store.verify() == []
    assert store.table()["cell_id"].tolist() == ["north/000.jpg#0", "north/000.jpg#1", "south/002.jpg#0"]
    assert store.table()["label"].tolist() == ["monocyte", "", "blast"]
    assert store.images()["reason"].tolist() == ["", "", "", "truncated file"]
    assert store.images()["cells"].tolist() == [2, 0, 1, 0]
    assert store.digest == digest
    tile = ("north/000.jpg", 60, 30) if version not in ("1.0", "1.1", "1.2") else ("", 0, 0)
    assert tuple(store.images().loc[1, ["tile_of", "tile_x", "tile_y"]]) == tile
    predicted = ["monocyte", "blast", ""] if version not in ("1.0", "1.1", "1.2") else [""] * 3
    assert store.table()["detected_class"].tolist() == predicted
    if version not in ("1.0", "1.1"):
        assert store.table()["group"].tolist() == ["patient 1", "patient 1", ""]
    expected = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    np.testing.assert_array_equal(store.read("features", [2, 0, 1]), np.stack([expected + 2, expected, expected + 1]))
    np.testing.assert_array_equal(store.read("boxes", [1]), [[1, 2, 30, 40]])
    np.testing.assert_array_equal(store.read("masks", [0])[0], np.eye(4, dtype=np.uint8))
    np.testing.assert_array_equal(store.read("crops", [1])[0, ..., 2], np.full((4, 4), 70))
    assert store.read("scores", slice(None)).tolist() == pytest.approx([0.9, 0.8, 0.7])


def datasets(path):
    """Name → (dtype, content, attributes) of every dataset of a shard."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            values = item.asstr()[:].tolist() if h5py.check_string_dtype(item.dtype) else item[:].tolist()
            found[name] = (str(item.dtype), item.chunks, values, dict(item.attrs))

    with h5py.File(path) as shard:
        shard.visititems(visit)
    return found


def test_this_version_writes_the_frozen_store_dataset_by_dataset(tmp_path):
    written = write_frozen(tmp_path / "store")
    frozen = FROZEN / f"store-{VERSION}"
    shards = [shard["file"] for shard in Store(frozen).manifest["shards"]]
    assert [shard["file"] for shard in Store(written).manifest["shards"]] == shards
    for file in shards:
        assert datasets(written / file) == datasets(frozen / file)
