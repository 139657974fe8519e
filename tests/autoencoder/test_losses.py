from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from cellfeat.autoencoder.losses import domain_alignment_loss, mse, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (112, 50) in float64 of an anchor and one other domain, from which the check values come."""
    random = np.random.RandomState(0)  # the generator of the check values
    a = np.tanh(random.standard_normal((64, 50)))
    b = np.tanh(0.5 + 1.5 * random.standard_normal((48, 50)))
    return torch.from_numpy(np.concatenate([a, b])), torch.tensor([0] * 64 + [1] * 48)


def test_alignment_check_values(pair):
    means = 0.0714780146078218
    assert domain_alignment_loss(*pair).item() == pytest.approx(0.07155960351441784, abs=1e-12)
    assert domain_alignment_loss(*pair, "sum").item() == pytest.approx(means + 0.2039722664901562, abs=1e-12)


def test_alignment_is_float32_under_autocast(pair):
    z, domain = pair
    with torch.autocast("cpu", torch.bfloat16):
        loss = domain_alignment_loss(z.float(), domain)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.07155960351441784, abs=1e-7)


def test_every_domain_is_compared_with_the_anchor(pair):
    z, domain = pair
    three = torch.cat([z, z[64:] + 0.1]), torch.cat([domain, torch.full((48,), 2)])
    without_first = domain_alignment_loss(torch.cat([z[:64], z[64:] + 0.1]), domain)
    torch.testing.assert_close(domain_alignment_loss(*three), domain_alignment_loss(z, domain) + without_first)


def test_domains_with_fewer_than_two_cells_contribute_nothing(pair):
    z, domain = pair
    lonely = torch.cat([z, torch.ones(1, 50)]), torch.cat([domain, torch.tensor([2])])
    assert domain_alignment_loss(*lonely).item() == domain_alignment_loss(z, domain).item()
    z = z[63:].requires_grad_()
    loss = domain_alignment_loss(z, domain[63:])  # one cell of the anchor
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_two_equal_latents_give_finite_gradients():
    z = torch.zeros(8, 50, requires_grad=True)
    domain_alignment_loss(z, torch.tensor([0, 1] * 4), "sum").backward()
    assert torch.isfinite(z.grad).all()


def images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = np.kron(random.random((4, 3, 16, 12)), np.ones((4, 4)))
    return x, np.clip(x + 0.1 * random.standard_normal(x.shape), 0, 1)


def test_ssim_is_that_of_scikit_image():
    x, y = images()
    expected = structural_similarity(
        *(x[0], y[0]), gaussian_weights=True, use_sample_covariance=False, data_range=1, channel_axis=0
    )
    assert ssim(torch.from_numpy(x[:1]), torch.from_numpy(y[:1])).item() == pytest.approx(expected, abs=1e-12)


def test_ssim_is_that_of_torchmetrics_where_the_window_fits():
    x, y = map(torch.from_numpy, images())
    _, full = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    assert ssim(x, y).item() == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-12)


def test_ssim_of_equal_and_of_flat_images_is_one_with_finite_gradient():
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    similarity = ssim(x, torch.zeros(1, 3, 32, 32))
    similarity.backward()
    assert similarity.item() == pytest.approx(1)
    assert torch.isfinite(x.grad).all()


def test_image_loss_of_a_subset_is_unbiased():
    x, y = map(torch.from_numpy, images())
    subsets = [list(subset) for subset in combinations(range(4), 2)]
    mean = sum(ssim(x[subset], y[subset]).item() for subset in subsets) / len(subsets)
    assert mean == pytest.approx(ssim(x, y).item(), abs=1e-12)


def test_mse_of_bfloat16_is_computed_in_float32():
    prediction = torch.full((1000,), 0.1, dtype=torch.bfloat16)
    assert mse(prediction, torch.zeros(1000)).dtype == torch.float32
    assert mse(prediction, torch.zeros(1000)).item() == pytest.approx(0.10009765625**2)
