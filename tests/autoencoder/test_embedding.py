from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from cellfeat.autoencoder import (
    Autoencoder,
    embedding,
    encode,
    load_autoencoder,
    reconstruct,
    save_autoencoder,
    scale_features,
)
from cellfeat.autoencoder.pooled_network import build_network
from cellfeat.errors import CellfeatError


@pytest.fixture
def weights(tmp_path):
    return save_autoencoder(tmp_path / "autoencoder.safetensors", Autoencoder(), {"config": {"beta": 5.0}})


def test_embeddings_are_the_encoders_in_store_order(make_store, weights, monkeypatch):
    store = make_store(cells=7, crop_size=32)  # the encoder needs no crops
    network, _ = load_autoencoder(weights)
    z = encode(store, weights, batch_size=3)
    with torch.no_grad():
        expected = network.encode(scale_features(torch.from_numpy(store.read("features", slice(None)))))
    np.testing.assert_allclose(z, expected.numpy(), atol=1e-3)
    monkeypatch.setattr(embedding, "usable", lambda precision, device: precision)  # whatever this CPU has
    half = encode(store, weights, precision="bf16")
    assert 0 < np.abs(half - expected.numpy()).mean() < 0.1


def test_reconstruction_is_the_image_decoders(make_store, weights):
    store = make_store(cells=4)
    images = reconstruct(store, weights, [2, 0])
    with torch.no_grad():
        h = scale_features(torch.from_numpy(store.read("features", [2, 0])))
        expected = load_autoencoder(weights)[0](h)[2]
    assert images.shape == (2, 3, 128, 128)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, expected.numpy(), atol=1e-3)


def test_a_domain_that_training_has_not_seen_is_scaled_by_its_own_statistics(make_store, tmp_path, caplog):
    network = build_network("pooled", "domain", 2)
    torch.nn.init.normal_(network.pooled_path.weight)
    torch.nn.init.ones_(network.encoder[-2].weight)
    card = {"config": {"network": "pooled", "scaling": "domain"}, "domains": ["acevedo", "int"]}
    path = save_autoencoder(tmp_path / "autoencoder.safetensors", network, card)
    store = make_store(cells=9)  # a third of them of matek
    with caplog.at_level(logging.INFO):
        z = encode(store, path)
    assert "domain matek: not seen in training, its features are scaled by its own 3 cells" in caplog.text
    assert "domain matek: the statistics of 3 cells are rough" in caplog.text

    new = (store.table()["domain"] == "matek").to_numpy()
    x = torch.from_numpy(store.read("features", np.flatnonzero(new))).double()
    mean, sd = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True, correction=0)
    with torch.no_grad():
        expected = network.encode(((x - mean) / (4 * sd)).clamp(-1, 1).float())
    np.testing.assert_allclose(z[new], expected.numpy(), atol=1e-3)


def test_bad_input_is_named(make_store, weights):
    with pytest.raises(CellfeatError, match="precision 'fp16'"):
        encode(make_store(cells=3), weights, precision="fp16")
    with pytest.raises(CellfeatError, match="256x7x7 a cell, AE-CFE needs 256x14x14"):
        encode(make_store(features=np.zeros((3, 256, 7, 7)), name="box"), weights)
