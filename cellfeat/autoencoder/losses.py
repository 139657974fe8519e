"""What AE-CFE minimises: 1 − SSIM of the images and the distance between the domains' latent statistics.

Sums of squares, logarithms and softmax lose too much in bfloat16, so every loss leaves autocast and computes in
float32, or in float64 where its input is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def domain_alignment_loss(z: Tensor, domain: Tensor, kl_reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Distance of each domain's latent mean and covariance to those of the anchor domain (L_DA of AE-CFE).

    Σ over domains k ≥ 1 of MSE(μ_k, μ_0) + ½[KL(s_0‖s_k) + KL(s_k‖s_0)], where μ is the mean of z and s the softmax
    down each column of the covariance of z (unbiased).

    Args:
        z: (n, d) latents.
        domain: (n,) int, 0 is the anchor.
        kl_reduction: "mean" averages KL over the d² elements (reference implementation), "sum" adds them (paper).

    Returns:
        Scalar; a domain with fewer than two cells has no covariance and contributes nothing.
    """
    with _without_autocast(z):
        z = _at_least_float32(z)
        loss = 0 * z.sum()
        anchor = z[domain == 0]
        if len(anchor) < 2:
            return loss
        for k in domain.unique():
            other = z[domain == k]
            if k != 0 and len(other) >= 2:
                loss = loss + functional.mse_loss(other.mean(0), anchor.mean(0))
                loss = loss + _symmetric_kl(
                    _log_softmax_covariance(anchor), _log_softmax_covariance(other), kl_reduction
                )
        return loss


def _log_softmax_covariance(z: Tensor) -> Tensor:
    return torch.cov(z.T).log_softmax(dim=0)


def _symmetric_kl(log_p: Tensor, log_q: Tensor, reduction: str) -> Tensor:
    terms = (log_p.exp() - log_q.exp()) * (log_p - log_q) / 2  # of ½[KL(p‖q) + KL(q‖p)]
    return terms.sum() if reduction == "sum" else terms.mean()


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all elements, scalar."""
    with _without_autocast(prediction):
        return functional.mse_loss(_at_least_float32(prediction), _at_least_float32(target))


def ssim(prediction: Tensor, target: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of images in [0, 1] (Wang et al. 2004), over the places where the window fits.

    Equal to scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)`. The Gaussian window is separable and the images are small, so that filtering is two products with
    banded matrices, one for each side: several times faster on a CPU than torchmetrics' 11 × 11 convolution.

    Args:
        prediction: (n, c, h, w) in [0, 1].
        target: Likewise.
        window: Side of the Gaussian window in pixels, odd.
        sigma: Its standard deviation in pixels.

    Returns:
        Scalar, at most 1.
    """
    c1, c2 = 0.01**2, 0.03**2  # K1 and K2 of Wang et al.
    with _without_autocast(prediction):
        x, y = _at_least_float32(prediction), _at_least_float32(target)
        rows, columns = (_gaussian_band(size, window, sigma).to(x) for size in x.shape[-2:])
        mean_x, mean_y, xx, yy, xy = rows @ torch.stack((x, y, x * x, y * y, x * y)) @ columns.T
        variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return (luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)).mean()


def _gaussian_band(size: int, window: int, sigma: float) -> Tensor:
    """Matrix (size − window + 1, size) whose product with a column of pixels is its Gaussian-weighted running mean."""
    offset = torch.arange(size) - torch.arange(size - window + 1)[:, None] - window // 2
    weights = torch.exp(-(offset.double() ** 2) / (2 * sigma**2)) * (offset.abs() <= window // 2)
    return weights / weights.sum(dim=1, keepdim=True)


def _without_autocast(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
