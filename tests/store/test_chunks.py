"""Chunks are what HDF5 makes of them and reads from them."""

import h5py
import numpy as np
import pytest
from store_helpers import SIDE, cell, image, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.chunks import NO_GZIP, fletcher32

SHARD = "shards/part-00000.h5"


@pytest.mark.parametrize("size", [1, 2, 3, 359, 721, 1 << 14, 100_353])
@pytest.mark.parametrize("fill", ["zeros", "ones", "random"])
def test_checksum_is_that_of_hdf5(tmp_path, size, fill):
    rng = np.random.default_rng(size)
    values = {"zeros": np.zeros(size), "ones": np.full(size, 255), "random": rng.integers(0, 256, size)}[fill]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", data=values.astype(np.uint8), chunks=(size,), fletcher32=True)
        file.flush()
        _, stored = made.id.read_direct_chunk((0,))
    assert fletcher32(stored[:-4]) == stored[-4:]


def written(path, count, **options):
    """One shard of cells whose features gzip shrinks (the even ones: ramps) or not (noise)."""
    ramp = np.arange(8 * 8 * 8, dtype=np.float32).reshape(8, 8, 8) // 64
    noise = np.random.default_rng(0).standard_normal((count, 8, 8, 8))
    features = [noise[k] if k % 2 else ramp for k in range(count)]
    images = [image(k, [cell(k, feature=features[k], mask=np.eye(SIDE, dtype=np.uint8))]) for k in range(count)]
    return write(path, images, shape=(8, 8, 8), shard_cells=100, shard_images=100, **options)


@pytest.mark.parametrize("gzip_level", [0, 1])
def test_hdf5_reads_the_same(tmp_path, gzip_level):
    path = written(tmp_path / "store", 12, gzip_level=gzip_level)
    rows = np.random.default_rng(1).permutation(12)
    with h5py.File(path / SHARD) as shard:
        expected = {name: shard[name][:][rows] for name in ("features", "crops", "masks")}
    for name, values in expected.items():
        np.testing.assert_array_equal(Store(path).read(name, rows), values)


def test_gzip_is_left_out_where_it_does_not_pay(tmp_path):
    path = written(tmp_path / "store", 40)
    masks = {}
    with h5py.File(path / SHARD) as shard:
        for name in ("features", "crops", "masks"):
            chunks = (shard[name].id.get_chunk_info(k) for k in range(40))
            masks[name] = {chunk.chunk_offset[0]: chunk.filter_mask for chunk in chunks}
    assert set(masks["masks"].values()) == {0}
    assert set(masks["crops"].values()) == {NO_GZIP}
    assert [masks["features"][k] for k in range(40)] == [0, NO_GZIP] * 20


@pytest.mark.parametrize("name", ["features", "masks"])
def test_a_damaged_chunk_names_its_shard(tmp_path, name):
    path = written(tmp_path / "store", 4)
    store = Store(path)
    with h5py.File(path / SHARD) as shard:
        where = shard[name].id.get_chunk_info(1).byte_offset
    with open(path / SHARD, "r+b") as file:
        file.seek(where)
        byte = file.read(1)
        file.seek(where)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CellfeatError, match=rf"part-00000\.h5: cannot read {name} \(a chunk's fletcher32"):
        store.read(name, slice(None))
