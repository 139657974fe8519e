import numpy as np
import pytest
from torch.utils.data import DataLoader

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.dataset import BlockShuffle, StoreDataset


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_what_the_store_holds(path, method):
    store = Store(path)
    whole = store.read("features", slice(None)).astype(np.float32)  # handles stand open in this process
    dataset = StoreDataset(store, names=("features", "scores"))
    sampler = BlockShuffle(len(dataset), block=4, pool=2)
    loader = DataLoader(
        dataset, 5, sampler=sampler, num_workers=2 if method == "fork" else 1, multiprocessing_context=method
    )
    rows = []
    for batch in loader:
        rows += batch["row"].tolist()
        np.testing.assert_array_equal(batch["features"].float().numpy(), whole[batch["row"].numpy()])
    assert sorted(rows) == list(range(18)) != rows


def test_items_are_the_rows_chosen(path):
    store = Store(path)
    rows = store.select(domain="south")
    dataset = StoreDataset(store, rows, ("crops",))
    assert len(dataset) == len(rows)
    assert dataset[3]["row"] == rows[3]
    np.testing.assert_array_equal(dataset[3]["crops"], store.read("crops", [rows[3]])[0])


def test_block_shuffle_is_a_new_order_of_near_items_each_epoch():
    sampler = BlockShuffle(1000, block=10, pool=5, seed=3)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second
    assert len({index // 10 for index in first[:50]}) == 5
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert len(sampler) == 1000
    with pytest.raises(CellfeatError, match="positive"):
        BlockShuffle(5, block=0)
