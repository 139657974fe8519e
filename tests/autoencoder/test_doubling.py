import pytest
import torch
from torch import nn

from cellfeat.autoencoder.doubling import Doubling


@pytest.fixture
def both():
    """PyTorch's and ours, with the same parameters, and some pixels."""
    torch.manual_seed(0)
    ours, theirs = Doubling(12, 7), nn.ConvTranspose2d(12, 7, 3, 2)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs, torch.randn(2, 12, 5, 6)


def test_quarters_are_the_transposed_convolution_with_its_gradients(both):
    ours, theirs, x = both
    found = []
    for network, call in ((ours, ours.by_quarters), (theirs, theirs)):
        pixels = x.clone().requires_grad_()
        y = call(pixels)
        (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        found.append([y, pixels.grad, network.weight.grad, network.bias.grad])
    for mine, its in zip(*found):
        assert mine.shape == its.shape
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)


def test_in_full_precision_it_is_pytorchs_own_and_in_bf16_the_quarters(both, monkeypatch):
    ours, theirs, x = both
    assert torch.equal(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16):
        low = ours(x)
        monkeypatch.setattr(ours, "by_quarters", lambda x: "quarters")
        assert ours(x) == "quarters"
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), theirs(x), rtol=0, atol=0.03)
