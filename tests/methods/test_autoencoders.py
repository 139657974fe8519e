from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from crop_stores import make_store
from torch import nn

from cellfeat.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.methods.aae import Adversary, confusion_loss, discrimination_loss
from cellfeat.methods.base import draws, embed_with
from cellfeat.methods.image_ae import ImageAutoencoder
from cellfeat.store import read_embeddings

QUICK = {"epochs": 2, "batch_size": 6, "image_fraction": 0.01}  # neither ae nor aae has an anchor


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", cells=12, size=128, feature_shape=(256, 14, 14))


def test_a_guessing_discriminator_gives_no_gradient_and_no_bias():
    z = torch.randn(9, 5, requires_grad=True)
    domain = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])  # of unequal size
    discriminator = nn.Linear(5, 3)
    nn.init.zeros_(discriminator.bias)
    with torch.no_grad():
        discriminator.weight.copy_(discriminator.weight[:1].clone())  # any weights, the same answer for every domain
    confusion = confusion_loss(discriminator(z))
    assert float(confusion.detach()) == pytest.approx(math.log(3))
    confusion.backward()
    np.testing.assert_allclose(z.grad, 0, atol=1e-6)

    discriminator.zero_grad()
    discrimination_loss(discriminator(z.detach()), domain).backward()
    np.testing.assert_allclose(discriminator.bias.grad, 0, atol=1e-6)


def test_otherwise_the_encoder_is_drawn_back():
    """By hand: two domains, logits (a, 0): the loss is ½[log(1 + e^a) + log(1 + e^-a)], its slope ½ tanh(a/2)."""
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    loss = confusion_loss(logits)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((math.log1p(math.exp(2)) + math.log1p(math.exp(-2))) / 2)
    np.testing.assert_allclose(logits.grad, [[math.tanh(1) / 2, -math.tanh(1) / 2]], rtol=1e-6)


def test_encoder_and_discriminator_have_one_loss_each():
    net = Adversary(build("aae", QUICK).config, domains=2)
    z, domain = torch.randn(6, 50, requires_grad=True), torch.arange(6) % 2
    net.loss(SimpleNamespace(all_z=z, all_domain=domain, log=lambda *_: None)).backward()
    of_encoder = z.grad.clone()
    of_discriminator = [parameter.grad.clone() for parameter in net.discriminator.parameters()]

    z.grad = None
    net.discriminator.zero_grad()
    confusion_loss(net.discriminator(z)).backward()
    np.testing.assert_allclose(of_encoder, z.grad, atol=1e-6)
    net.discriminator.zero_grad()
    discrimination_loss(net.discriminator(z.detach()), domain).backward()
    for mine, expected in zip(of_discriminator, net.discriminator.parameters()):
        np.testing.assert_allclose(mine, expected.grad, atol=1e-6)


@pytest.mark.parametrize("name", ["ae", "aae"])
def test_the_autoencoder_is_trained_on_the_rows_given(store, tmp_path, name):
    method, rows = build(name, QUICK), np.array([0, 2, 3, 4, 5, 6, 7, 9])
    method.fit(store, rows, tmp_path / name)
    z = method.embed(store, tmp_path / name)
    assert z.shape == (12, 50)
    assert z.dtype == np.float32
    split = pd.read_csv(tmp_path / name / "split.csv")
    assert np.flatnonzero(split["part"] == "train").tolist() == rows.tolist()
    _, card = load_autoencoder(tmp_path / name / "autoencoder.safetensors")
    assert card["cells"] == len(rows)
    metrics = pd.read_csv(tmp_path / name / "metrics.csv")
    assert (metrics["beta"] == {"ae": 0, "aae": 1}[name]).all()
    assert ("discriminator_loss" in metrics) == (name == "aae")
    with pytest.raises(CellfeatError, match="choose another output folder"):
        method.fit(store, rows[1:], tmp_path / name)


def test_trained_weights_embed_without_training_and_say_how_they_were_made(store, tmp_path):
    weights = save_autoencoder(tmp_path / "autoencoder.safetensors", Autoencoder(), {"config": {"beta": 5.0}})
    _, card = load_autoencoder(weights)
    method = build("aecfe", {"weights": str(weights), "embed_precision": "bf16"})
    assert draws(build("aecfe", {}))
    assert not draws(method)
    found = read_embeddings(embed_with(method, store, np.arange(4), tmp_path / "fit", tmp_path / "z.h5"))
    assert not (tmp_path / "fit").exists()
    assert found.attributes["method"] == "aecfe"
    assert found.attributes["store_digest"] == store.digest
    assert found.attributes["weights_sha256"] == card["weights_sha256"]
    assert json.loads(found.attributes["config"]) == {"beta": 5.0, "embed_precision": "bf16"}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("aae", {"relative_alignment": True}),
        ("aae", {"kl_reduction": "mean"}),
        ("ae", {"beta": 2.0}),
        ("ae", {"beta_warmup_epochs": 3}),
        ("ae", {"kl_reduction": "mean"}),
    ],
)
def test_settings_without_effect_are_refused(name, setting):
    with pytest.raises(CellfeatError, match=f"{name}: .*{next(iter(setting))} has no effect on this method"):
        build(name, setting)
    config = build(name, {"preset": "transfer"}).config
    assert not config.relative_alignment  # the preset's own
    assert type(config).model_validate(config.model_dump()) == config


def test_domains_without_training_cells_do_not_anchor(store, tmp_path):
    method = build("aecfe", QUICK)
    method.fit(store, np.arange(1, 12, 2), tmp_path / "one")
    _, card = load_autoencoder(tmp_path / "one" / "autoencoder.safetensors")
    assert card["domains"] == ["site-b"]
    assert np.isfinite(method.embed(store, tmp_path / "one")).all()


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_cells(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cellfeat.autoencoder.objectives.features.mse", lambda *_: torch.tensor(math.nan))
    with pytest.raises(CellfeatError, match=r"epoch 0, step 0: the loss is nan; .*: site-a/002.png#0, site-b/003"):
        build("ae", QUICK).fit(store, np.array([2, 3]), tmp_path / "ae")


def test_the_image_autoencoder_stops_likewise(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cellfeat.methods.image_ae.ssim", lambda *_: torch.tensor(math.nan))
    with pytest.raises(CellfeatError, match=r"epoch 0, step 0: the loss is nan; .*: site-a/002.png#0$"):
        build("image-ae", {"epochs": 1, "batch_size": 2}).fit(store, np.array([2]), tmp_path / "image-ae")


def test_the_image_autoencoder_learns_from_crops_alone(store, tmp_path):
    config = {"epochs": 1, "batch_size": 2}
    method = build("image-ae", config)
    method.fit(store, np.arange(4), tmp_path / "image-ae")
    z = method.embed(store, tmp_path / "image-ae")
    assert z.shape == (12, 50)
    pictures = method.reconstruct(store, np.array([3, 1]), tmp_path / "image-ae")
    assert pictures.shape == (2, 128, 128, 3)
    assert pictures.dtype == np.uint8
    small = make_store(tmp_path / "small", cells=2, size=32)
    with pytest.raises(CellfeatError, match=r"image-ae: needs cells with crops of 128 px; there are 2 with 32 px"):
        method.fit(small, np.arange(2), tmp_path / "other")


def test_the_image_autoencoder_is_as_deep_as_aecfe_behind_its_stem():
    network = ImageAutoencoder()
    with torch.no_grad():
        assert network.stem(torch.zeros(1, 3, 128, 128)).shape == (1, 256, 14, 14)
        assert network.encode(torch.zeros(1, 3, 128, 128)).shape == (1, 50)
