from __future__ import annotations

import pytest
import torch
from torch import nn

from cellfeat.autoencoder.network import Autoencoder
from cellfeat.autoencoder.pooled_network import PooledAutoencoder, build_network
from cellfeat.autoencoder.profile import PROFILE_SIZE, pooled_features, profile_loss
from cellfeat.autoencoder.scaling import CellScaling, ChannelScaling


def test_shapes():
    network = PooledAutoencoder()
    z, features_hat, image_hat = network(torch.rand(2, 256, 14, 14) * 2 - 1)
    assert z.shape == (2, 50)
    assert features_hat.shape == (2, 256, 14, 14)
    assert image_hat.shape == (2, 3, 128, 128)
    assert network.decode_profile(z).shape == (2, PROFILE_SIZE)
    assert network.decode_thumbnails(features_hat).shape == (2, 3, 14, 14)


def test_every_norm_has_one_group():
    norms = [layer for layer in PooledAutoencoder().encoder if isinstance(layer, nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [1] * 5


def test_before_training_the_latent_does_not_know_where_things_lie():
    network, h = PooledAutoencoder(), torch.rand(3, 256, 14, 14) * 2 - 1
    turned = torch.rot90(h, 1, (2, 3))
    torch.testing.assert_close(network.encode(h), network.encode(turned), atol=1e-4, rtol=0)


def test_weights_keep_the_scale_of_what_passes():
    torch.manual_seed(0)
    x = torch.randn(4, 256, 14, 14)
    for layer in PooledAutoencoder().encoder[:-2]:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            assert 0.5 < x.detach().square().mean() < 6


def test_warm_start_predicts_what_is_linear_in_the_pooled_features():
    torch.manual_seed(0)
    network, h = PooledAutoencoder(), torch.rand(700, 256, 2, 2)
    pooled = pooled_features(h)
    standard = (pooled - pooled.mean(0)) / pooled.std(0, correction=0)
    profile = standard[:, :5] @ torch.randn(5, PROFILE_SIZE)
    network.warm_start(pooled, profile)
    assert not network.pooled_path.bias.any()
    small = 0.1 * network.pooled_path.weight  # so that tanh is nearly straight
    z = torch.tanh(((pooled - network.pooled_mean) / network.pooled_sd) @ small.T)
    assert float(profile_loss(network.decode_profile(10 * z), profile)) < 0.15 * float(profile.square().mean())


@pytest.mark.parametrize(
    ("kind", "scaling", "network", "statistics"),
    [
        ("paper", "cell", Autoencoder, None),
        ("paper", "channel", Autoencoder, 1),
        ("pooled", "domain", PooledAutoencoder, 3),
    ],
)
def test_networks_by_name(kind, scaling, network, statistics):
    built = build_network(kind, scaling, 3)
    assert type(built) is network
    if statistics is None:
        assert isinstance(built.scaling, CellScaling)
    else:
        assert isinstance(built.scaling, ChannelScaling)
        assert built.scaling.mean.shape == (statistics, 256)
