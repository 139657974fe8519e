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
from store_helpers import smear, write

from cellfeat.store import Store
from cellfeat.store.schema import CELL_COLUMNS, IMAGE_COLUMNS, VERSION

DOCUMENT = (Path(__file__).parents[2] / "docs/store-format.md").read_text(encoding="utf-8")
FROZEN = Path(__file__).parent / "data/store-1.0"


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
    for name in ("features", "crops", "masks", *CELL_COLUMNS, *(f"images/{name}" for name in IMAGE_COLUMNS)):
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


def test_frozen_store_of_version_1_0_is_read():
    store = Store(FROZEN)
    assert store.manifest["version"] == "1.0"
    assert store.verify() == []
    assert store.table()["cell_id"].tolist() == ["north/000.jpg#0", "north/000.jpg#1", "south/002.jpg#0"]
    assert store.table()["label"].tolist() == ["monocyte", "", "blast"]
    assert store.images()["reason"].tolist() == ["", "", "", "truncated file"]
    assert store.images()["cells"].tolist() == [2, 0, 1, 0]
    assert store.digest == "9572b2eda9fc3bb45c4c067fdb20a96b9843388b531483bffa7452111d351571"
    expected = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    np.testing.assert_array_equal(store.read("features", [2, 0, 1]), np.stack([expected + 2, expected, expected + 1]))
    np.testing.assert_array_equal(store.read("boxes", [1]), [[1, 2, 30, 40]])
    np.testing.assert_array_equal(store.read("masks", [0])[0], np.eye(4, dtype=np.uint8))
    np.testing.assert_array_equal(store.read("crops", [1])[0, ..., 2], np.full((4, 4), 70))
    assert store.read("scores", slice(None)).tolist() == pytest.approx([0.9, 0.8, 0.7])
