from __future__ import annotations

import math

import pytest
import torch

from cellfeat.autoencoder.health import latent_health


def test_effective_rank_counts_equally_used_directions():
    z = torch.cat([torch.eye(4), -torch.eye(4)]) @ torch.eye(4, 50)
    health = latent_health(z.repeat(2, 1))
    assert health.effective_rank == pytest.approx(4)
    assert not health.collapsed


def test_a_point_and_a_line_are_collapsed():
    point = latent_health(torch.full((20, 50), 0.3))
    line = latent_health(torch.linspace(-1, 1, 20)[:, None] * torch.ones(50))
    assert point.sd == pytest.approx(0, abs=1e-9)
    assert line.sd > 0.5
    assert line.effective_rank == pytest.approx(1)
    assert point.collapsed
    assert line.collapsed


def test_few_cells_are_not_judged():
    assert math.isnan(latent_health(torch.ones(1, 50)).sd)
    assert not latent_health(torch.ones(1, 50)).collapsed
    assert not latent_health(torch.ones(3, 50)).collapsed
