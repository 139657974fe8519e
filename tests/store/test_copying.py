"""Copies of cells: packed chunks are taken over as they are, whatever the shards and filters of the source."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, image, smear, write

from cellfeat.errors import CellfeatError, Damaged
from cellfeat.store import Store, StoreWriter, read_embeddings, write_embeddings
from cellfeat.store.copying import _blocks, merge, subset
from cellfeat.store.diff import diff


def chunk(path, name, row):
    """Filter mask and stored bytes of one chunk of a store of one shard."""
    with h5py.File(path / "shards/part-00000.h5", locking=False) as shard:
        return shard[name].id.read_direct_chunk((row, *(0,) * (shard[name].ndim - 1)))


def test_chunks_are_copied_as_they_are(path, tmp_path):
    one = Store(write(tmp_path / "one", smear(), shard_cells=1000, shard_images=1000))
    copies = {"whole": merge([Store(path)], tmp_path / "whole"), "part": subset(one, tmp_path / "part", label="blast")}
    rows = one.select(label="blast")
    for name in ("features", "crops", "masks"):
        assert [chunk(tmp_path / "whole", name, row) for row in range(18)] == [
            chunk(tmp_path / "one", name, row) for row in range(18)
        ]
        assert [chunk(tmp_path / "part", name, k) for k in range(len(rows))] == [
            chunk(tmp_path / "one", name, row) for row in rows
        ]
    assert all(copy.verify() == [] for copy in copies.values())


@pytest.mark.parametrize(
    "filters",
    [{}, {"fletcher32": True}, {"compression": "gzip"}, {"shuffle": True, "compression": "gzip", "fletcher32": True}],
    ids=str,
)
def test_sources_with_other_filters(path, tmp_path, filters):
    for file in sorted((path / "shards").iterdir()):
        with h5py.File(file, "r+") as shard:
            for name in ("features", "crops", "masks"):
                values = shard[name][:]
                del shard[name]
                shard.create_dataset(name, data=values, chunks=(1, *values.shape[1:]), **filters)
    copy = merge([Store(path)], tmp_path / "copy")
    assert copy.verify() == []
    assert not diff(copy, Store(write(tmp_path / "again", smear())))


def test_a_damaged_chunk_is_not_copied(path, tmp_path):
    source = Store(path)
    address = source.shards._chunks_of(0, "crops").address[1]
    with open(path / "shards/part-00000.h5", "r+b") as file:
        file.seek(address + 5)
        file.write(b"\xff\x00\xff")
    with pytest.raises(Damaged, match=r"part-00000\.h5: cannot read crops"):
        subset(Store(path), tmp_path / "copy")
    assert len(Store(tmp_path / "copy")) == 0


def test_an_interrupted_copy_goes_on(path, tmp_path):
    whole = merge([Store(path)], tmp_path / "whole")
    with StoreWriter(tmp_path / "part", SHAPE, SIDE, whole.provenance) as writer:
        for result in smear()[:6]:
            writer.add(result)
    part = merge([Store(path)], tmp_path / "part")
    pd.testing.assert_frame_equal(part.table(), whole.table())
    pd.testing.assert_frame_equal(part.images(), whole.images())
    np.testing.assert_array_equal(part.read("features", slice(None)), whole.read("features", slice(None)))


def test_a_block_fills_shards_as_its_images_would(tmp_path):
    images = smear()
    shards = Store(write(tmp_path / "one", images, shard_cells=1000, shard_images=1000)).shards
    [block] = _blocks(shards, 0, np.arange(18), set(), {"north", "south"})
    one_by_one = Store(write(tmp_path / "images", images))
    with StoreWriter(tmp_path / "block", SHAPE, SIDE, PROVENANCE, shard_cells=5, shard_images=6) as writer:
        writer.add_block(block)
        with pytest.raises(CellfeatError, match="already"):
            writer.add_block(block.part(3, 5))
    counts = [(shard["cells"], shard["images"]) for shard in one_by_one.manifest["shards"]]
    assert [(s["cells"], s["images"]) for s in Store(tmp_path / "block").manifest["shards"]] == counts
    assert not diff(one_by_one, Store(tmp_path / "block"))
    assert Store(tmp_path / "block").verify() == []


def test_a_part_of_an_images_cells(tmp_path):
    source = Store(write(tmp_path / "store", [image(k, cells=3) for k in range(5)], shard_cells=4))
    few = subset(source, tmp_path / "few", score=0.7)
    rows = source.select(score=0.7)
    assert 0 < len(rows) < 15
    pd.testing.assert_frame_equal(few.table(), source.table().iloc[rows].reset_index(drop=True))
    for name in ("features", "crops", "masks", "boxes"):
        np.testing.assert_array_equal(few.read(name, slice(None)), source.read(name, rows))
    assert few.images()["cells"].sum() == len(rows)
    assert few.verify() == []


def embed(store, name, **said):
    z = np.random.default_rng(len(name)).normal(size=(len(store), 3)).astype(np.float32)
    attributes = {"method": name, "config": "{}", "store_digest": store.digest, "fitted_sha256": ""} | said
    write_embeddings(store.path / f"embeddings/{name}.h5", store.table()["cell_id"], z, attributes)
    return dict(zip(store.table()["cell_id"], z))


def test_embeddings_go_along(path, tmp_path, caplog):
    source = Store(path)
    vectors = embed(source, "plain")
    embed(source, "old", store_digest="another")
    (path / "embeddings/broken.h5").write_bytes(b"no HDF5")
    north, south = (subset(source, tmp_path / domain, domain) for domain in ("north", "south"))
    for part in (north, south):
        found = read_embeddings(part.path / "embeddings/plain.h5")
        assert found.attributes["store_digest"] == part.digest
        assert len(found.z) == len(part)
        np.testing.assert_array_equal(found.of(part.table()["cell_id"]), [vectors[i] for i in part.table()["cell_id"]])
    assert {file.stem for file in (tmp_path / "north/embeddings").iterdir()} == {"plain"}
    assert "old.h5: embeds another store" in caplog.text

    for k, part in enumerate((north, south)):
        embed(part, "fitted", fitted_sha256=str(k))
    embed(north, "alone")
    merged = merge([south, north], tmp_path / "merged")
    assert {file.stem for file in (tmp_path / "merged/embeddings").iterdir()} == {"plain"}
    both = read_embeddings(tmp_path / "merged/embeddings/plain.h5")
    np.testing.assert_array_equal(both.z, [vectors[i] for i in merged.table()["cell_id"]])
    assert "fitted.h5 is left out: its settings or weights differ" in caplog.text
    assert "alone.h5 is left out: not every store has it" in caplog.text


def test_embeddings_of_stores_that_share_a_domain_are_left_out(tmp_path, caplog):
    images = smear()
    parts = [Store(write(tmp_path / str(k), images[7 * k : 7 * k + 7])) for k in range(2)]
    for part in parts:
        embed(part, "plain")
    merged = merge(parts, tmp_path / "merged")
    assert not (merged.path / "embeddings").exists()
    assert "plain.h5 is left out: two stores have cells of the domain" in caplog.text
