from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cellfeat.autoencoder import AutoencoderConfig
from cellfeat.autoencoder.objectives import Alignment


def loss(z: torch.Tensor, domain: torch.Tensor, **settings) -> torch.Tensor:
    return Alignment(AutoencoderConfig(**settings), 3).loss(SimpleNamespace(all_z=z, all_domain=domain))


def test_a_relative_alignment_does_not_fall_when_the_latent_shrinks():
    z, domain = torch.randn(60, 50, dtype=torch.float64) + torch.arange(60)[:, None] % 3, torch.arange(60) % 3
    assert float(loss(z / 10, domain)) < 0.1 * float(loss(z, domain))
    relative = {"relative_alignment": True}
    torch.testing.assert_close(loss(z / 10, domain, **relative), loss(z, domain, **relative))


@pytest.mark.parametrize("relative", [False, True])
def test_one_cell_alone_is_aligned_with_nothing(relative):
    z = torch.randn(1, 50, requires_grad=True)
    found = loss(z, torch.tensor([1]), relative_alignment=relative)
    found.backward()
    assert float(found.detach()) == 0
    assert torch.count_nonzero(z.grad) == 0
