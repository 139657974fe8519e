"""Predictive sparse decomposition: a dictionary, its sparse codes, and an encoder that predicts them in one product.

Source: Kavukcuoglu, Ranzato, LeCun, "Fast inference in sparse coding algorithms with applications to object
recognition", tech. report CBLL-TR-2008-12-01 (2008; arXiv 1010.3467). Each vector x has a code z that minimises

    E(z) = ‖x − D z‖² + λ‖z‖₁ + α‖z − f(x)‖²,    f(x) = g ∘ tanh(W x + b),    columns of D of length 1

in turns over z (FISTA from the prediction f(x); Beck & Teboulle 2009), D (block coordinate descent on running sums;
Mairal et al., "Online learning for matrix factorization and sparse coding", JMLR 2010) and W, b, g (Adam).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FORGETTING = 0.9  # weight of the past in the dictionary's sums: the last ten batches or so count
ENCODER_BATCH = 250
ENCODER_PASSES = 5
ENCODER_LR = 1e-3


class PredictiveSparseDecomposition(nn.Module):
    """Dictionary D and encoder f, with the normalisation of their input.

    Attributes:
        mean: (d,) subtracted from a vector.
        scale: Scalar that it is then divided by, so that the mean of ‖x‖² is 1 and λ means the same for any data.
        dictionary: (d, k), columns of length 1.
        weight, bias, gain: (k, d), (k,), (k,) of the encoder.
    """

    mean: Tensor
    scale: Tensor
    dictionary: Tensor

    def __init__(self, inputs: int, kernels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("dictionary", torch.zeros(inputs, kernels))
        self.weight = nn.Parameter(torch.zeros(kernels, inputs))
        self.bias = nn.Parameter(torch.zeros(kernels))
        self.gain = nn.Parameter(torch.ones(kernels))

    @torch.no_grad()
    def start(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Take the normalisation and the first kernels from vectors (n, d).

        The encoder starts as D's transpose with gain 0: it predicts nothing. With gain 1 it predicts codes of squared
        length 60 for patches of squared length 1, since kernels that are patches resemble each other, and α pulls the
        codes to them: half to nine tenths of all coefficients were in use after three batches.
        """
        self.mean.copy_(vectors.mean(0))
        centred = vectors - self.mean
        self.scale.copy_(centred.square().sum(1).mean().sqrt().clamp_min(1e-6))
        kernels = self.dictionary.shape[1]
        chosen = torch.randint(len(vectors), (kernels,), generator=generator)
        noise = 0.01 * torch.randn(vectors.shape[1], kernels, generator=generator)  # no two kernels are alike
        self.dictionary.copy_(functional.normalize(centred[chosen].T / self.scale + noise, dim=0))
        self.weight.copy_(self.dictionary.T)
        self.gain.zero_()

    @torch.no_grad()
    def start_gain(self, x: Tensor, z: Tensor) -> None:
        """Set each kernel's gain to the least-squares one for codes z (n, k) of normalised vectors x (n, d)."""
        response = torch.tanh(functional.linear(x, self.weight, self.bias))
        self.gain.copy_((z * response).sum(0) / response.square().sum(0).clamp_min(1e-12))

    def normalise(self, vectors: Tensor) -> Tensor:
        """Vectors (n, d) as D and f see them."""
        return (vectors - self.mean) / self.scale

    def predict(self, x: Tensor) -> Tensor:
        """Codes f(x) (n, k) of normalised vectors x (n, d)."""
        return self.gain * torch.tanh(functional.linear(x, self.weight, self.bias))

    def folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight (k, d), bias (k,) and gain (k,) that predict the code of a vector that is not normalised."""
        weight = self.weight / self.scale
        return weight, self.bias - weight @ self.mean, self.gain


def objective(x: Tensor, z: Tensor, prediction: Tensor, dictionary: Tensor, sparsity: float, alpha: float) -> Tensor:
    """E(z) (n,) of the module's docstring."""
    error = (x - z @ dictionary.T).square().sum(1)
    return error + sparsity * z.abs().sum(1) + alpha * (z - prediction).square().sum(1)


@torch.no_grad()
def sparse_codes(
    x: Tensor, prediction: Tensor, dictionary: Tensor, sparsity: float, alpha: float, steps: int
) -> Tensor:
    """Codes z (n, k) that minimise E(z) for a given dictionary (d, k), by `steps` of FISTA from the prediction (n, k).

    x is (n, d); `sparsity` is λ. The momentum starts anew where a step turns against it (O'Donoghue & Candès 2015). The
    codes of a dictionary that is no number are NaN.
    """
    gram = dictionary.T @ dictionary
    if not gram.isfinite().all():  # eigvalsh would raise; the objective of such codes says where it happened
        return torch.full_like(prediction, torch.nan)
    step = 0.5 / (torch.linalg.eigvalsh(gram)[-1] + alpha)
    pull = x @ dictionary + alpha * prediction
    z = point = prediction
    momentum = 1.0
    for _ in range(steps):
        gradient = 2 * (point @ gram + alpha * point - pull)
        following = functional.softshrink(point - step * gradient, float(step) * sparsity)
        if ((point - following) * (following - z)).sum() > 0:
            momentum = 1.0
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        point = following + (momentum - 1) / next_momentum * (following - z)
        z, momentum = following, next_momentum
    return z


@torch.no_grad()
def update_dictionary(dictionary: Tensor, codes_codes: Tensor, vectors_codes: Tensor, spare: Tensor) -> None:
    """One pass of block coordinate descent over the columns of the dictionary (d, k), in place.

    Args:
        dictionary: D.
        codes_codes: (k, k) running sum of zᵀz.
        vectors_codes: (d, k) running sum of xᵀz.
        spare: (m, d) vectors that are reconstructed badly; they replace columns that no code uses.
    """
    used = codes_codes.diagonal() > 1e-6 * codes_codes.diagonal().max()
    for j in used.nonzero().flatten().tolist():
        column = dictionary[:, j] + (vectors_codes[:, j] - dictionary @ codes_codes[:, j]) / codes_codes[j, j]
        dictionary[:, j] = functional.normalize(column, dim=0)
    unused = (~used).nonzero().flatten()[: len(spare)]
    dictionary[:, unused] = functional.normalize(spare[: len(unused)].T, dim=0)


class Learner:
    """Trains a `PredictiveSparseDecomposition`, a batch of vectors at a time."""

    def __init__(self, psd: PredictiveSparseDecomposition, sparsity: float, alpha: float, code_steps: int) -> None:
        self.psd = psd
        self._sparsity, self._alpha, self._code_steps = sparsity, alpha, code_steps
        inputs, kernels = psd.dictionary.shape
        self._codes_codes = psd.dictionary.new_zeros(kernels, kernels)
        self._vectors_codes = psd.dictionary.new_zeros(inputs, kernels)
        self._optimizer = torch.optim.Adam(psd.parameters(), lr=ENCODER_LR)

    def step(self, vectors: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Learn from vectors (n, d), not normalised; returns what the codes of this batch were like before.

        Keys: error (mean ‖x − Dz‖², 1 is the error of z = 0), nonzero (mean number of coefficients in use) and
        nonzero_share (of all), prediction_error (mean ‖z − f(x)‖²) and code_energy (mean ‖z‖², the prediction error of
        f = 0), objective (mean E(z)).
        """
        psd, x = self.psd, self.psd.normalise(vectors)
        with torch.no_grad():
            prediction = psd.predict(x)
        z = sparse_codes(x, prediction, psd.dictionary, self._sparsity, self._alpha, self._code_steps)
        residual = (x - z @ psd.dictionary.T).square().sum(1)
        energy = objective(x, z, prediction, psd.dictionary, self._sparsity, self._alpha)
        measured = {
            "error": float(residual.mean()),
            "nonzero": float((z != 0).sum(1).float().mean()),
            "nonzero_share": float((z != 0).float().mean()),
            "prediction_error": float((z - prediction).square().sum(1).mean()),
            "code_energy": float(z.square().sum(1).mean()),
            "objective": float(energy.mean()),
        }
        self._codes_codes.mul_(FORGETTING).add_(z.T @ z)
        self._vectors_codes.mul_(FORGETTING).add_(x.T @ z)
        spare = x[residual.argsort(descending=True)]
        update_dictionary(psd.dictionary, self._codes_codes, self._vectors_codes, spare)
        if not psd.gain.any():
            psd.start_gain(x, z)
        for _ in range(ENCODER_PASSES):
            for rows in torch.randperm(len(x), generator=generator).to(x.device).split(ENCODER_BATCH):
                self._optimizer.zero_grad()
                (psd.predict(x[rows]) - z[rows]).square().sum(1).mean().backward()
                self._optimizer.step()
        return measured

    def state(self) -> dict:
        """Tensors and numbers to go on from."""
        sums = {"codes_codes": self._codes_codes, "vectors_codes": self._vectors_codes}
        return {"psd": self.psd.state_dict(), "optimizer": self._optimizer.state_dict()} | sums

    def load(self, state: dict) -> None:
        """Go on from `state()`."""
        self.psd.load_state_dict(state["psd"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._codes_codes.copy_(state["codes_codes"])
        self._vectors_codes.copy_(state["vectors_codes"])
