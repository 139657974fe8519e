from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from cellfeat.errors import CellfeatError
from cellfeat.reporting.heat_maps import attention_rollout, grad_cam, overlay, rollout


def test_rollout_by_hand():
    """One class token, one patch looked at by it in the first layer; in the second everything looks at itself."""
    first = torch.zeros(1, 5, 5)
    first[0, 0, 3] = 1
    first[0, 1:, 1:] = torch.eye(4)
    second = torch.eye(5)[None]
    np.testing.assert_allclose(rollout([first, second])[0], [[0, 0], [1, 0]])
    np.testing.assert_allclose(rollout([second, first])[0], [[0, 0], [1, 0]])


def test_rollout_takes_the_attention_of_every_layer():
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    maps = attention_rollout(network, images)
    assert maps.shape == (2, 4, 4)
    assert maps.min() == 0
    assert maps.max() == 1
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_grad_cam_finds_what_the_class_is_told_by():
    pytest.importorskip("pytorch_grad_cam")
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():  # class 0: red, class 1: blue
        network[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[..., None, None])
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, :8, :8] = 1
    heat = grad_cam(network, image)[0]
    assert heat[:8, :8].min() > 0.9
    assert heat[8:].max() < 0.1


class Residual(nn.Module):
    """A convolution beside a shortcut, as at the end of a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.zeros_(self.convolution.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolution(x)


def test_grad_cam_sees_what_comes_by_a_shortcut():
    pytest.importorskip("pytorch_grad_cam")
    network = nn.Sequential(Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, :8, :8] = 1
    heat = grad_cam(network, image)[0]
    assert heat[:8, :8].min() > 0.9
    assert heat[8:].max() < 0.1
    assert not any(layer._forward_hooks for layer in network.modules())


def test_what_has_nothing_to_look_at_is_refused():
    pytest.importorskip("pytorch_grad_cam")
    with pytest.raises(CellfeatError, match="Sequential has neither convolutions nor attention"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2))


def test_an_overlay_leaves_cold_places_as_they_are():
    crop = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    shown = overlay(crop, heat)
    np.testing.assert_array_equal(shown[16:, 16:], crop[16:, 16:])
    assert (shown[:3, :3] != crop[:3, :3]).any()
