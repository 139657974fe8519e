"""Ways to adapt a classifier to the laboratory that it shall name, which see its cells but no label of them.

Each takes `fit(z, label)`, the learned cells (n, d) with their labels (n,), and the tested cells (m, d). Each returns
the classes and their probabilities (m, k). The alignments of the package move all laboratories at once, these one pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Fit = Callable[[np.ndarray, np.ndarray], Any]
ROUNDS = 3
FEWEST = 5  # cells that a class needs before its mean is believed


def plain(fit: Fit, z: np.ndarray, label: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """No adaptation."""
    model = fit(z, label)
    return model.classes_, model.predict_proba(tested)


def optimal_transport(fit: Fit, z: np.ndarray, label: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Learned cells moved onto the tested ones by the exact plan (Courty et al., TPAMI 2017, arXiv 1507.00504; POT)."""
    import ot

    transport = ot.da.EMDTransport(max_iter=1_000_000).fit(Xs=z, Xt=tested)
    return plain(fit, transport.transform(Xs=z), label, tested)


def optimal_transport_by_class(
    fit: Fit, z: np.ndarray, label: np.ndarray, tested: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same, with a plan that keeps learned cells of different classes apart (the group lasso of the article)."""
    import ot

    numbers = np.unique(label, return_inverse=True)[1]
    transport = ot.da.SinkhornL1l2Transport(reg_e=0.05, reg_cl=0.1, norm="max").fit(Xs=z, ys=numbers, Xt=tested)
    return plain(fit, transport.transform(Xs=z), label, tested)


def pseudo_labels(fit: Fit, z: np.ndarray, label: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Learned classes moved onto the means of the tested cells that are called so, three times over."""
    classes, probabilities = plain(fit, z, label, tested)
    for _ in range(ROUNDS):
        named = classes[probabilities.argmax(1)]
        moved = z.copy()
        for name in classes:
            if (named == name).sum() >= FEWEST:
                moved[label == name] += tested[named == name].mean(0) - z[label == name].mean(0)
        classes, probabilities = plain(fit, moved, label, tested)
    return classes, probabilities


def label_shift(fit: Fit, z: np.ndarray, label: np.ndarray, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities for the tested laboratory's own shares of the classes, found by EM.

    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
    Computation 2002, eq. 2.9.
    """
    classes, probabilities = plain(fit, z, label, tested)
    learned = np.array([(label == name).mean() for name in classes])
    shares, posterior = learned, probabilities
    for _ in range(200):
        posterior = probabilities * (shares / learned)
        posterior = posterior / np.maximum(posterior.sum(1, keepdims=True), 1e-12)
        shares = posterior.mean(0)
    return classes, posterior


ADAPTATIONS = {
    "ot": optimal_transport,
    "ot-by-class": optimal_transport_by_class,
    "pseudo-labels": pseudo_labels,
    "label-shift": label_shift,
}
