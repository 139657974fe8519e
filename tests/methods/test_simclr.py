from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_stores import make_store

from cellfeat.errors import MissingRequirement
from cellfeat.methods import build
from cellfeat.methods.cell_encoder import CellEncoder, embed_crops
from cellfeat.methods.simclr import METRICS, WEIGHTS, _cached, _OneDomain, contrast

SETTINGS = {"batch_size": 6, "size": 32, "epochs": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("ssl") / "store", cells=10)


@pytest.fixture(scope="module")
def encoder():
    return CellEncoder(18, 32).eval()


@pytest.fixture(scope="module")
def fitted(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "fit"
    build("simclr", SETTINGS).fit(store, np.arange(8), folder)
    return folder


def test_it_learns_without_labels_and_embeds_every_cell(store, fitted):
    losses = np.loadtxt(fitted / METRICS, delimiter=",", skiprows=1)
    assert losses.shape == (2,)
    assert sorted(path.name for path in fitted.iterdir()) == ["checkpoints", "fit.json", METRICS, WEIGHTS]
    z = build("simclr", SETTINGS).embed(store, fitted)
    assert (z.shape, z.dtype) == ((10, 384), np.float32)
    assert z.std(axis=0).mean() > 0.01


def test_a_damaged_cache_of_crops_is_made_again(store, tmp_path):
    path, rows = tmp_path / "crops.npy", np.arange(4)
    whole = np.array(_cached(store, rows, path))
    np.testing.assert_array_equal(whole, store.read("crops", rows))
    content = path.read_bytes()
    for damaged in (content[:-1], b"", bytes(len(content))):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(_cached(store, rows, path), whole)
    assert len(_cached(store, rows[:2], path)) == 2


def test_an_embedding_does_not_change_when_the_cell_is_turned(store, encoder, monkeypatch):
    upright = embed_crops(encoder, store, 32, "upright")
    crops = store.read("crops", slice(None))
    monkeypatch.setattr(store, "read", lambda name, rows: np.rot90(crops[rows], axes=(1, 2)))
    np.testing.assert_allclose(embed_crops(encoder, store, 32, "turned"), upright, rtol=1e-3, atol=1e-4)


def test_weights_have_the_detectors_names_and_come_back(encoder):
    weights = encoder.named_weights()
    assert "backbone.bottom_up.stem.conv1.weight" in weights
    assert "backbone.bottom_up.res5.1.conv2.norm.bias" in weights
    other = CellEncoder(18, 32).eval()
    other.load({name: value.half() for name, value in weights.items()})
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(other(images), encoder(images), rtol=0.02, atol=0.02)


def test_the_loss_is_that_of_lightly():
    loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2)
    a, b = torch.randn(2, 5, 8).unbind()
    torch.testing.assert_close(contrast(a, b, 0.2), loss(a, b))
    assert contrast(a, a, 0.01) < 0.01  # each is likest itself


def test_each_batch_is_of_one_domain_and_an_epoch_has_every_cell_once():
    domain = np.array(["a"] * 9 + ["b"] * 5)
    sampler = _OneDomain(domain, 4, seed=0)
    batches = [rows for rows, _ in sampler]
    assert len(batches) == len(sampler) == 3
    assert all(len(set(domain[rows])) == 1 and len(rows) > 1 for rows in batches)
    assert sorted(np.concatenate(batches)) == list(range(14))
    sampler.set_epoch(1)
    assert [sorted(rows) for rows, _ in sampler] != [sorted(rows) for rows in batches]


def test_a_domain_of_one_cell_is_refused(store, tmp_path):
    with pytest.raises(MissingRequirement, match="two cells of each domain"):
        build("simclr", SETTINGS).fit(store, np.arange(3), tmp_path / "fit")
    assert not (tmp_path / "fit").exists()
