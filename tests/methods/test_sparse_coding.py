from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from torch.nn import functional

from cellfeat.methods.sparse_coding import Learner, PredictiveSparseDecomposition, objective, sparse_codes

INPUTS, KERNELS, SPARSITY = 24, 48, 0.1


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    """400 vectors, each of three columns of an overcomplete dictionary."""
    rng = torch.Generator().manual_seed(0)
    dictionary = functional.normalize(torch.randn(INPUTS, KERNELS, generator=rng), dim=0)
    z = torch.zeros(400, KERNELS)
    order = torch.rand(z.shape, generator=rng).argsort(1)[:, :3]
    z.scatter_(1, order, torch.randn(400, 3, generator=rng))
    return z @ dictionary.T + 0.5


@pytest.fixture(scope="module")
def learned(vectors) -> tuple[PredictiveSparseDecomposition, list[dict[str, float]]]:
    """What 30 batches taught, and what was measured of each."""
    rng = torch.Generator().manual_seed(1)
    psd = PredictiveSparseDecomposition(INPUTS, KERNELS)
    psd.start(vectors, rng)
    learner = Learner(psd, SPARSITY, 0.01, 50)
    return psd, [learner.step(vectors, rng) for _ in range(30)]


def test_codes_minimise_the_objective_as_scikit_learn_finds_it(vectors):
    psd = PredictiveSparseDecomposition(INPUTS, KERNELS)
    psd.start(vectors, torch.Generator().manual_seed(0))
    x = psd.normalise(vectors[:50])
    zero = torch.zeros(50, KERNELS)
    z = sparse_codes(x, zero, psd.dictionary, 0.2, 0.0, 500)
    lasso = sparse_encode(x.double().numpy(), psd.dictionary.T.double().numpy(), algorithm="lasso_cd", alpha=0.1)
    best = objective(x.double(), torch.from_numpy(lasso), zero, psd.dictionary.double(), 0.2, 0.0)
    found = objective(x.double(), z.double(), zero, psd.dictionary.double(), 0.2, 0.0)
    np.testing.assert_allclose(found, best, rtol=1e-3)  # both iterate, neither to the last digit


def test_a_heavy_prediction_holds_the_codes():
    rng = torch.Generator().manual_seed(0)
    dictionary = functional.normalize(torch.randn(INPUTS, KERNELS, generator=rng), dim=0)
    prediction = torch.randn(5, KERNELS, generator=rng)
    z = sparse_codes(torch.randn(5, INPUTS, generator=rng), prediction, dictionary, 0.1, 1e5, 20)
    np.testing.assert_allclose(z, prediction, atol=1e-3)


def test_reconstruction_beats_sparse_pca_codes_and_matches_scikit_learn(vectors, learned):
    """The errors of codes that are equally sparse, on the same vectors."""
    psd, history = learned
    assert history[-1]["objective"] < 0.7 * history[0]["objective"]
    x = psd.normalise(vectors)
    none = torch.zeros(len(x), KERNELS)

    def coded(dictionary: torch.Tensor) -> tuple[torch.Tensor, float]:
        z = sparse_codes(x, none, dictionary, SPARSITY, 0.0, 300)
        return z, float(objective(x, z, none, dictionary, SPARSITY, 0.0).mean())

    z, energy = coded(psd.dictionary)
    error = float((x - z @ psd.dictionary.T).square().sum(1).mean())

    # PCA's columns are orthonormal: the best k-sparse code keeps the k largest coefficients.
    in_use = int((z != 0).sum(1).float().mean().ceil())
    scores = (x @ torch.linalg.svd(x, full_matrices=False).Vh.T).square()
    pca_error = float((scores.sum(1) - scores.topk(in_use, dim=1).values.sum(1)).mean())
    assert error < 0.8 * pca_error

    reference = MiniBatchDictionaryLearning(KERNELS, alpha=SPARSITY / 2, max_iter=5, batch_size=100, random_state=0)
    components = reference.fit(x.numpy()).components_
    assert energy < 1.05 * coded(torch.from_numpy(components.T.copy()))[1]


def test_the_encoder_learns_to_predict_the_codes(learned):
    _, history = learned
    missed = [one["prediction_error"] / one["code_energy"] for one in history]
    assert missed[0] == pytest.approx(1)  # nothing is predicted yet
    assert missed[-1] < 0.5


def test_kernels_that_nothing_uses_are_replaced():
    rng = torch.Generator().manual_seed(0)
    vectors = torch.randn(100, INPUTS, generator=rng)
    psd = PredictiveSparseDecomposition(INPUTS, KERNELS)
    psd.start(vectors, rng)
    psd.dictionary[:, 0] = 0
    Learner(psd, 0.1, 0.0, 20).step(vectors, rng)
    np.testing.assert_allclose(psd.dictionary.norm(dim=0), 1, atol=1e-5)


def test_folding_the_normalisation_into_the_encoder_changes_nothing(vectors, learned):
    psd, _ = learned
    weight, bias, gain = psd.folded()
    folded = gain * torch.tanh(vectors @ weight.T + bias)
    np.testing.assert_allclose(folded.detach(), psd.predict(psd.normalise(vectors)).detach(), atol=1e-4)
