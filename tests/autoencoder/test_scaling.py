from __future__ import annotations

import numpy as np
import torch

from cellfeat.autoencoder.scaling import ChannelScaling, channel_statistics, scale_features


def test_features_are_scaled_cell_by_cell():
    features = torch.randn(3, 4, 5, 5) * torch.tensor([1.0, 100.0, 0.01])[:, None, None, None]
    scaled = scale_features(features.half())
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled.amin(dim=(1, 2, 3)), -torch.ones(3))
    torch.testing.assert_close(scaled.amax(dim=(1, 2, 3)), torch.ones(3))


def test_scaling_keeps_its_input_and_a_constant_map_becomes_zero():
    features = torch.cat([torch.zeros(1, 4, 5, 5), torch.full((1, 4, 5, 5), 7.0), torch.full((1, 4, 5, 5), 1e-45)])
    before = features.clone()
    assert torch.equal(scale_features(features), torch.zeros(3, 4, 5, 5))
    assert torch.equal(features, before)


def test_channel_statistics_are_those_of_all_cells_and_places(make_store):
    features = np.random.default_rng(0).normal(3, 2, (24, 256, 14, 14)).astype(np.float16)
    features[:, 7] = 5
    store = make_store(features=features)
    rows = np.array([1, 4, 5, 20])
    mean, sd = channel_statistics(store, rows, batch_size=3)
    chosen = store.read("features", rows).astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), chosen.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.delete(sd.numpy(), 7), np.delete(chosen.std((0, 2, 3)), 7), rtol=1e-5)
    assert sd[7] == 1  # it never changes


def test_each_group_is_scaled_by_its_own_statistics(make_store):
    random = np.random.default_rng(0)
    domain = np.arange(24) % 3
    features = (
        random.normal(0, 1, (24, 256, 14, 14)) * (1 + domain)[:, None, None, None] + 10 * domain[:, None, None, None]
    )
    store = make_store(features=features)
    rows = np.arange(24)
    x, group = torch.from_numpy(store.read("features", rows)), torch.from_numpy(domain)

    scaling = ChannelScaling(3, 256)
    scaling.measure(store, rows, domain)
    h = scaling(x, group)
    assert h.dtype == torch.float32
    assert h.abs().max() <= 1
    for k in range(3):
        members = h[group == k]
        torch.testing.assert_close(members.mean((0, 2, 3)), torch.zeros(256), atol=0.01, rtol=0)
        torch.testing.assert_close(members.std((0, 2, 3)), torch.full((256,), 0.25), atol=0.01, rtol=0)

    together = ChannelScaling(1, 256)
    together.measure(store, rows, domain)
    means = [float(together(x, group)[group == k].mean()) for k in range(3)]
    assert means[0] < -0.2 < 0.2 < means[2]


def test_a_group_can_be_added():
    scaling = ChannelScaling(2, 4)
    scaling.extend(torch.full((4,), 6.0), torch.full((4,), 0.5))
    h = scaling(torch.full((1, 4, 2, 2), 7.0), torch.tensor([2]))
    torch.testing.assert_close(h, torch.full((1, 4, 2, 2), 0.5))  # (7 - 6) / (4 * 0.5)
