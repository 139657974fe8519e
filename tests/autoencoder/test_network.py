from __future__ import annotations

import torch
from torch import nn

from cellfeat.autoencoder.network import Autoencoder


def test_parameter_count_of_the_paper():
    assert sum(parameter.numel() for parameter in Autoencoder().parameters()) == 3_969_141


def test_shapes_and_ranges():
    z, features_hat, image_hat = Autoencoder()(torch.rand(2, 256, 14, 14) * 2 - 1)
    assert z.shape == (2, 50)
    assert features_hat.shape == (2, 256, 14, 14)
    assert image_hat.shape == (2, 3, 128, 128)
    assert z.abs().max() <= 1
    assert features_hat.abs().max() <= 1
    assert 0 <= image_hat.min() <= image_hat.max() <= 1


def test_group_norm_follows_each_relu_of_the_encoder():
    encoder = Autoencoder().encoder
    assert [type(layer) for layer in encoder] == [nn.Conv2d, nn.ReLU, nn.GroupNorm] * 5 + [nn.Conv2d, nn.Tanh]
    norms = [layer for layer in encoder if isinstance(layer, nn.GroupNorm)]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [
        (40, 200),
        (30, 150),
        (10, 100),
        (10, 70),
        (20, 60),
    ]


def test_embedding_does_not_depend_on_the_rest_of_the_batch():
    # In float64: the convolution that a CPU picks depends on the batch size, and in float32 that shows.
    network, h = Autoencoder().double(), torch.rand(5, 256, 14, 14, dtype=torch.float64)
    torch.testing.assert_close(network.encode(h)[3:4], network.encode(h[3:4]))
