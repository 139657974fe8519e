"""Pretrained weights of methods: which file is taken, without a network."""

from __future__ import annotations

import pytest
from torchvision.models import get_model_weights

from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.methods.base import demand
from cellfeat.methods.hub import hub_url, local_weights


def test_the_addresses_are_torchvisions_own():
    for name in ("resnet101", "vgg16", "vgg19", "vit_b_16", "resnext50_32x4d"):
        assert hub_url(name) == get_model_weights(name)["IMAGENET1K_V1"].url
        assert "-" in hub_url(name)
    with pytest.raises(CellfeatError, match="model 'vgg17': torchvision has none"):
        hub_url("vgg17")


def test_pretrained_methods_need_no_file(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path))
    for name, model in (("resnet", "resnet101"), ("finetune:vgg16", "vgg16"), ("finetune:vit_b_16", "vit_b_16")):
        method = build(name, {"pretrained": True})
        demand(method, store, range(len(store)))  # nothing is missing beforehand
        (tmp_path / hub_url(model).rpartition("/")[2]).write_bytes(b"another file")
        with pytest.raises(CellfeatError, match=f"{model}-.*its sha256 is"):
            local_weights(model, None, method.config.pretrained)
    assert local_weights("vgg16", "mine.pth", True) == "mine.pth"
    assert local_weights("vgg16", None, False) is None


def test_dinobloom_is_downloaded_where_its_digest_is_published(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path))
    (tmp_path / "DinoBloom-S.pth").write_bytes(b"another file")
    small, base = (build("dinobloom", {"model": model, "pretrained": True}) for model in "sb")
    demand(small, store, range(len(store)))
    with pytest.raises(CellfeatError, match=r"DinoBloom-S.pth: its sha256 is \w+, not c2f7990b"):
        small.weights_file()
    with pytest.raises(CellfeatError, match=r"dinobloom-b: not listed .*download DinoBloom-B from https://zenodo"):
        base.weights_file()
