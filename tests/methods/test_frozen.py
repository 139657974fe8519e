from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_stores import make_store
from safetensors.torch import save_file
from torch.nn import functional

from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.methods.backbones import IMAGENET_MEAN, IMAGENET_SD, torchvision_model
from cellfeat.methods.base import embed_with
from cellfeat.methods.frozen import rename_dinov2, timm_model


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", cells=4)


def inputs(store, size: int, mean=IMAGENET_MEAN, sd=IMAGENET_SD) -> torch.Tensor:
    crops = torch.from_numpy(store.read("crops", slice(None))).permute(0, 3, 1, 2) / 255
    crops = functional.interpolate(crops, (size, size), mode="bilinear", antialias=True)
    return (crops - torch.tensor(mean)[:, None, None]) / torch.tensor(sd)[:, None, None]


def test_resnet_gives_the_pooled_features_of_the_crop(store, tmp_path):
    torch.manual_seed(0)
    network = torchvision_model("resnet101", 64).eval()
    torch.save(network.state_dict(), tmp_path / "resnet101.pth")
    method = build("resnet", {"weights": str(tmp_path / "resnet101.pth"), "size": 64, "batch_size": 3})
    z = method.embed(store, tmp_path)
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = network(inputs(store, 64)).numpy()
    assert z.shape == (4, 2048)
    np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_network_of_timm_without_its_head(store, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t.c3_in1k", pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    method = build("timm:resnet10t.c3_in1k", {"weights": str(tmp_path / "model.safetensors"), "size": 64})
    assert method.name == "timm:resnet10t.c3_in1k"
    z = method.embed(store, tmp_path)
    network.reset_classifier(0)
    images = inputs(store, 64, network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    with torch.no_grad():
        np.testing.assert_allclose(z, network(images).numpy(), rtol=1e-3, atol=1e-4)


def test_dinobloom_reads_a_checkpoint_of_dinov2s_training(store, tmp_path):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm_model("vit_small_patch14_dinov2", 28).eval()
    teacher = {
        f"backbone.{name.replace('blocks.', 'blocks.0.')}": tensor for name, tensor in network.state_dict().items()
    }
    teacher |= {"backbone.mask_token": torch.zeros(1, 384), "dino_head.mlp.0.weight": torch.zeros(2, 384)}
    torch.save({"teacher": teacher}, tmp_path / "DinoBloom-S.pth")
    config = {"model": "s", "weights": str(tmp_path / "DinoBloom-S.pth"), "size": 28}
    z = build("dinobloom", config).embed(store, tmp_path)
    with torch.no_grad():
        expected = network(inputs(store, 28)).numpy()
    assert z.shape == (4, 384)
    np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(CellfeatError, match=r"DinoBloom-S.pth: not the weights of this network: "):
        build("dinobloom", config | {"model": "b"}).embed(store, tmp_path)


def test_the_giants_gated_layers_have_other_names_in_timm():
    renamed = rename_dinov2({"blocks.3.mlp.w12.weight": torch.ones(1), "blocks.3.mlp.w3.bias": torch.ones(2)})
    assert list(renamed) == ["blocks.3.mlp.fc1.weight", "blocks.3.mlp.fc2.bias"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnet", r"download https://download.pytorch.org/models/resnet101-\w+.pth and give the file's path"),
        ("timm:vit_tiny_patch16_224", r"download model.safetensors from https://huggingface.co/timm/vit_tiny_patch16_"),
        ("dinobloom", r"download DinoBloom-B from https://zenodo.org/records/10908163 and give the file's path"),
    ],
)
def test_without_weights_it_says_what_to_download(store, tmp_path, name, source):
    with pytest.raises(CellfeatError, match=f"{name}: lacks weights: {source}"):
        build(name).embed(store, tmp_path)
    with pytest.raises(CellfeatError, match=f"{name}: lacks weights: {source}"):
        embed_with(build(name), store, np.arange(4), tmp_path, tmp_path / "z.h5")
    assert not (tmp_path / "z.h5").exists()


def test_names_that_timm_does_not_have_are_refused(store, tmp_path):
    pytest.importorskip("timm")
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(CellfeatError, match="model 'resnet10x': timm has none of this name"):
        build("timm:resnet10x", {"weights": str(tmp_path / "a.pth")}).embed(store, tmp_path)
