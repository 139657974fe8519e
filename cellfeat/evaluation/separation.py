"""How far apart laboratories lie in an embedding, which they should not, and classes, which they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

from cellfeat.data.split import folds
from cellfeat.evaluation.classifiers import own_warning_filters

FOLDS, TREES = 5, 100
MAX_CELLS = 3000  # beyond, a fixed random choice: silhouettes cost the square of the cells


def separation(
    z: np.ndarray, domain: np.ndarray, label: np.ndarray, seed: int = 0, unit: np.ndarray | None = None
) -> dict[str, float]:
    """Domain-classifier accuracy and silhouettes of one embedding.

    A domain classifier also recognises a domain by the classes that it alone holds, so its accuracy is best compared
    between embeddings of the same cells, not with the level of guessing.

    Args:
        z: (n, d), finite.
        domain: (n,) names.
        label: (n,) classes, "" where unknown: these cells do not enter the silhouette by class.
        unit: (n,) the patient or image of each cell (`cellfeat.data.split.units_of`), which no fold divides; each cell
            alone if None. A domain of a single unit cannot be told by its other patients and is left out.

    Returns:
        domain_accuracy: Balanced accuracy of a random forest (100 trees, classes weighted) that names the domain,
            cross-validated in five folds.
        domain_chance: 1 / number of domains.
        silhouette_class, silhouette_domain: Mean silhouettes, −1 to 1, Euclidean on standardised dimensions.

        NaN where there are fewer than two domains or classes of at least five cells.
    """
    if len(z) > MAX_CELLS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(z))[:MAX_CELLS])
        z, domain, label = z[chosen], domain[chosen], label[chosen]
        unit = None if unit is None else unit[chosen]
    standard = StandardScaler().fit_transform(z) if len(z) else z
    units = np.arange(len(z))
    if unit is not None and len(unit):
        units = pd.factorize(pd.MultiIndex.from_arrays([domain, unit]))[0]
    accuracy, domains = float("nan"), [name for name in _groups(domain) if len(np.unique(units[domain == name])) > 1]
    if len(domains) > 1:
        rows = np.isin(domain, domains)
        forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=-1)
        with own_warning_filters():
            called = cross_val_predict(forest, z[rows], domain[rows], cv=folds(domain[rows], units[rows], FOLDS, seed))
        accuracy = float(balanced_accuracy_score(domain[rows], called))
    return {
        "domain_accuracy": accuracy,
        "domain_chance": 1 / len(domains) if len(domains) > 1 else float("nan"),
        "silhouette_class": _silhouette(standard, label),
        "silhouette_domain": _silhouette(standard, domain),
    }


def _groups(names: np.ndarray) -> list[str]:
    """The names, without "", that at least five cells have."""
    found, counts = np.unique(names[names != ""], return_counts=True)
    return found[counts >= FOLDS].tolist()


def _silhouette(z: np.ndarray, names: np.ndarray) -> float:
    groups = _groups(names)
    rows = np.isin(names, groups)
    return float(silhouette_score(z[rows], names[rows])) if len(groups) > 1 else float("nan")
