from __future__ import annotations

import numpy as np
import pytest
import torch

from cellfeat.autoencoder.data import BatchSampler, CellDataset, check_shapes, order_domains
from cellfeat.errors import CellfeatError, MissingRequirement


def test_anchor_comes_first_and_the_others_sorted():
    assert order_domains(["b", "c", "a", "b"], "b") == ["b", "a", "c"]
    assert order_domains(["Matek-19", "Acevedo-20", "INT-20"], None) == ["Matek-19", "Acevedo-20", "INT-20"]
    assert order_domains(["a", "a"], None) == ["a"]
    assert order_domains(["b", "a"], None, anchored=False) == ["a", "b"]
    with pytest.raises(MissingRequirement, match=r"anchor: not given, and Matek-19 is not among .*; name .*: a, b$"):
        order_domains(["b", "a"], None)
    with pytest.raises(CellfeatError, match=r"'x' is not a domain .*: a, b"):
        order_domains(["b", "a"], "x")


def test_an_epoch_visits_each_row_once_in_its_own_order():
    sampler = BatchSampler(np.arange(100, 123), batch_size=10, seed=3)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        batches = [rows for rows, _ in sampler]
        assert [len(rows) for rows in batches] == [10, 10, 3]
        assert len(sampler) == 3
        assert sorted(np.concatenate(batches)) == list(range(100, 123))
        assert all((np.diff(rows) > 0).all() for rows in batches)
        epochs.append(np.concatenate(batches).tolist())
    assert epochs[0] == epochs[2] != epochs[1]


def test_batch_larger_than_the_rows():
    assert [len(rows) for rows, _ in BatchSampler(np.arange(5), batch_size=1500)] == [5]


def test_processes_share_each_batch_equally():
    shares = [list(BatchSampler(np.arange(21), 10, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [[len(rows) for rows, _ in share] for share in shares] == [[5, 5], [5, 5]]
    assert len(BatchSampler(np.arange(21), 10, world_size=2)) == 2
    assert len({row for share in shares for rows, _ in share for row in rows}) == 20


def test_every_cell_has_the_same_chance_of_the_image_loss():
    sampler = BatchSampler(np.arange(8), batch_size=8, image_fraction=0.25)
    counts = np.zeros(8)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        ((_, images),) = sampler
        assert len(set(images)) == 2
        counts[images] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_at_least_one_image_a_batch():
    assert [len(images) for _, images in BatchSampler(np.arange(5), 3, image_fraction=0.01)] == [1, 1]


def test_dataset_reads_crops_of_the_chosen_cells_only(make_store):
    store = make_store(cells=6)
    batch = CellDataset(store, np.array([0, 1, 2, 0, 1, 2]))[np.array([1, 3, 5]), np.array([0, 2])]
    np.testing.assert_array_equal(batch.features, store.read("features", [1, 3, 5]))
    np.testing.assert_array_equal(batch.crops, store.read("crops", [1, 5]))
    assert batch.domain.tolist() == [1, 0, 2]


def test_masked_crops_are_white_outside_the_mask(make_store, monkeypatch):
    store = make_store(cells=3)
    masks = np.zeros((3, 128, 128), np.uint8)
    masks[:, 30:60, 40:90] = 1
    read = type(store).read
    monkeypatch.setattr(
        type(store), "read", lambda self, name, rows: masks[rows] if name == "masks" else read(self, name, rows)
    )
    (crop,) = CellDataset(store, np.zeros(3, np.int64), masked=True)[np.arange(3), np.array([2])].crops
    inside = masks[2] > 0
    assert torch.equal(crop[inside], torch.from_numpy(store.read("crops", [2])[0][inside]))
    assert (crop[~inside] == 255).all()


def test_stores_that_do_not_fit_are_refused_with_sizes(make_store):
    with pytest.raises(CellfeatError, match=r"256x7x7 a cell, AE-CFE needs 256x14x14"):
        check_shapes(make_store(features=np.zeros((3, 256, 7, 7)), name="box"))
    with pytest.raises(CellfeatError, match=r"crops are 64x64x3, AE-CFE needs 128x128x3"):
        check_shapes(make_store(cells=3, crop_size=64, name="small"))
    with pytest.raises(CellfeatError, match="no cells"):
        check_shapes(make_store(features=np.zeros((0, 256, 14, 14)), name="empty"))
