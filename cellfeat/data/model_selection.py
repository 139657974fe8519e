"""Which of several models fits a domain without labels? Two answers that look at its predictions alone."""

from __future__ import annotations

import numpy as np
from scipy.special import entr, logsumexp, softmax

SELECTION = ("entropy", "snd")
TEMPERATURE = 0.005  # the HAHO challenge article's β
SMALLEST_NORM = 1e-12  # of features that are all 0, as behind a ReLU; they resemble nothing
SAMPLED = 4096  # cells that are compared with all others; of all it would take the square of their number
ELEMENTS = 1 << 22  # of the similarity matrix at a time: 34 MB


def prediction_entropy(probabilities: np.ndarray) -> float:
    """Mean entropy of the predictions, in nats: the lower, the surer the model is of its answers.

    Args:
        probabilities: (n, k), rows adding up to 1.
    """
    return float(entr(probabilities).sum(axis=1).mean())


def soft_neighbourhood_density(features: np.ndarray, temperature: float = TEMPERATURE) -> float:
    """How densely cells lie among their like: the higher, the better the model suits these cells.

    The mean over cells, of more than 4,096 over a fixed sample of so many, of the entropy of softmax(similarity /
    temperature) to all other cells, the similarity being the cosine of their features (the HAHO challenge article,
    whose features are the network's). Saito et al., "Tune it the right way: unsupervised validation of domain
    adaptation via soft neighborhood density", ICCV 2021, equations 2 to 4, take the predicted probabilities and the
    temperature 0.05.

    Args:
        features: (n, d), or probabilities (n, k) where the features are not known; n at least 2.
        temperature: Default: the article's.

    Returns:
        In nats, 0 to log(n − 1).
    """
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(SMALLEST_NORM)
    n, total = len(unit), 0.0
    chosen = np.arange(n) if n <= SAMPLED else np.random.default_rng(0).choice(n, SAMPLED, replace=False)
    for cells in np.array_split(chosen, min(len(chosen), -(-len(chosen) * n // ELEMENTS))):
        logits = unit[cells] @ unit.T / temperature
        logits[np.arange(len(cells)), cells] = -np.inf  # a cell is not its own neighbour
        share = softmax(logits, axis=1)
        finite = np.where(share > 0, logits, 0.0)
        total += float((logsumexp(logits, axis=1) - (share * finite).sum(axis=1)).sum())  # entropy of a softmax
    return total / len(chosen)
