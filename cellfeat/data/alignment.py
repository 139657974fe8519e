"""Alignment that costs nothing: any embedding, moved domain by domain onto an anchor's statistics. No label is used.

`coral` matches means and covariances (Sun, Feng and Saenko, "Return of frustratingly easy domain adaptation",
AAAI 2016, with the means, which the paper leaves alone, and Ledoit and Wolf's shrinkage in place of its added
identity). `combat` matches each dimension's mean and spread by empirical Bayes (Johnson, Li and Rabinovic, "Adjusting
batch effects in microarray expression data using empirical Bayes methods", Biostatistics 2007, with a reference batch).
`monge` is the map between two normal distributions that moves cells least, by optimal transport (Flamary, Lounici and
Ferrari, "Concentration bounds for linear Monge mapping estimation and optimal transport domain adaptation", 2019, arXiv
1905.10155), with the shrinkage of `coral`.

All assume that the domains hold the same cells in the same shares; where they do not, real differences go too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
from sklearn.covariance import ledoit_wolf

from cellfeat.errors import CellfeatError, MissingRequirement

Alignment = Literal["coral", "combat", "monge"]

ANCHOR = "Matek-19"  # dataset D_0 of the AE-CFE paper
MIN_CELLS = 2  # of a domain, to estimate its statistics from


def anchor_of(domains: Iterable[str], anchor: str | None, same_site: Mapping[str, str] | None = None) -> str:
    """The domain that the others are aligned to: the one that is named, or Matek-19, or the only one.

    Args:
        domains: Names.
        anchor: The name that was given, if any.
        same_site: Our domain's name to the published one whose site it shares.

    Raises:
        CellfeatError: No domain has the anchor's name.
        MissingRequirement: No anchor is named, and which it is cannot be known.
    """
    names = sorted(set(domains))
    if anchor is None:
        known = [name for name in names if ANCHOR.lower() in (name.lower(), (same_site or {}).get(name, "").lower())]
        if len(known) != 1 and len(names) > 1:
            choice = f"name the domain that the others are aligned to: {', '.join(names)}"
            raise MissingRequirement(f"anchor: not given, and {ANCHOR} is not among the domains", choice, "anchor")
        return (known or names)[0]
    if anchor not in names:
        raise CellfeatError(f"anchor {anchor!r} is not a domain of the store; choose one of: {', '.join(names)}")
    return anchor


def aligned(
    z: np.ndarray, domain: np.ndarray, rows: np.ndarray, by: Alignment, anchor: str | None = None
) -> np.ndarray:
    """Embeddings moved, domain by domain, onto the anchor's statistics; the anchor's own stay as they are.

    Args:
        z: (n, d), finite.
        domain: (n,) names.
        rows: Row numbers of the cells that the statistics are taken from; all cells are moved.
        anchor: See `anchor_of`.

    Returns:
        (n, d) float32.
    """
    names, chosen = sorted(set(domain.tolist())), np.zeros(len(z), bool)
    chosen[rows] = True
    anchor = anchor_of(names, anchor)
    for name in names:
        if (count := int((chosen & (domain == name)).sum())) < MIN_CELLS:
            raise MissingRequirement(
                f"alignment: {count} cells of {name} to take statistics from, {MIN_CELLS} are needed"
            )
    double = z.astype(np.float64)
    learned = {name: double[chosen & (domain == name)] for name in names}
    maps = {"coral": coral, "combat": combat, "monge": monge}[by](learned, anchor)
    moved = double.copy()
    for name, transform in maps.items():
        moved[domain == name] = transform(double[domain == name])
    return moved.astype(np.float32)


def standardised(z: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Each dimension with mean 0 and standard deviation 1 within each domain; one without any spread becomes 0.

    Args:
        z: (n, d), finite.
        domain: (n,) names.

    Returns:
        (n, d) float32.
    """
    moved = z.astype(np.float64)
    for name in np.unique(domain):
        members = moved[domain == name]
        spread = members.std(axis=0)
        alive = spread > 1e-9 * np.abs(members).max(axis=0)  # rounding leaves a little where all are equal
        moved[domain == name] = np.where(alive, (members - members.mean(axis=0)) / np.where(alive, spread, 1), 0)
    return moved.astype(np.float32)


Maps = dict[str, Callable[[np.ndarray], np.ndarray]]


def coral(learned: dict[str, np.ndarray], anchor: str) -> Maps:
    """For each domain k but the anchor a: z → (z − μ_k) C_k^(−1/2) C_a^(1/2) + μ_a, C shrunk by Ledoit and Wolf."""
    return _linear(learned, anchor, lambda own, target: _power(own, -0.5) @ _power(target, 0.5))


def monge(learned: dict[str, np.ndarray], anchor: str) -> Maps:
    """For each domain k but the anchor a: z → (z − μ_k) C_k^(−1/2) (C_k^(1/2) C_a C_k^(1/2))^(1/2) C_k^(−1/2) + μ_a,
    C as in `coral`. It gives the same means and covariances as CORAL, by a symmetric matrix, which turns nothing.
    """

    def matrix(own: np.ndarray, target: np.ndarray) -> np.ndarray:
        root, inverse = _power(own, 0.5), _power(own, -0.5)
        return inverse @ _power(root @ target @ root, 0.5) @ inverse

    return _linear(learned, anchor, matrix)


def _linear(
    learned: dict[str, np.ndarray], anchor: str, matrix: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Maps:
    """z → (z − μ_k) M + μ_a, M from the covariances of the domain k and of the anchor a."""
    mean = {name: z.mean(axis=0) for name, z in learned.items()}
    target = ledoit_wolf(learned[anchor])[0]

    def transform(name: str) -> Callable[[np.ndarray], np.ndarray]:
        linear = matrix(ledoit_wolf(learned[name])[0], target)
        return lambda z: (z - mean[name]) @ linear + mean[anchor]

    return {name: transform(name) for name in learned if name != anchor}


def combat(learned: dict[str, np.ndarray], anchor: str, tolerance: float = 1e-4) -> Maps:
    """For each domain but the anchor: shift γ* and scale δ* of each dimension, shrunk to the domain's own (equations
    2 to 4 of the paper's parametric adjustment, the anchor as reference batch).
    """
    centre, spread = learned[anchor].mean(axis=0), learned[anchor].std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)  # a dimension that is constant in the anchor is shifted, not scaled

    def transform(name: str) -> Callable[[np.ndarray], np.ndarray]:
        shift, variance = _posterior((learned[name] - centre) / spread, tolerance)
        return lambda z: ((z - centre) / spread - shift) / np.sqrt(variance) * spread + centre

    return {name: transform(name) for name in learned if name != anchor}


def _posterior(standard: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """γ* and δ²* (d,) of one domain's standardised cells (n, d), by iterating their conditional posteriors."""
    n = len(standard)
    mean, variance = standard.mean(axis=0), standard.var(axis=0, ddof=1)
    alive = variance > 1e-12  # a constant dimension is shifted, not scaled
    if alive.sum() < 2 or not (s2 := variance[alive].var(ddof=1)):  # nothing to learn a prior from
        return mean, np.where(alive, variance, 1.0)
    m, prior_mean, prior_variance = variance[alive].mean(), mean[alive].mean(), mean[alive].var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2  # the inverse gamma's moments
    shift, scale = mean[alive], variance[alive]
    change = 1.0
    while change > tolerance:
        new_shift = (n * prior_variance * mean[alive] + scale * prior_mean) / (n * prior_variance + scale)
        squares = ((standard[:, alive] - new_shift) ** 2).sum(axis=0)
        new_scale = (squares / 2 + b) / (n / 2 + a - 1)
        steps = [abs(new - old) / abs(old).clip(1e-12) for new, old in ((new_shift, shift), (new_scale, scale))]
        change = float(np.max(steps))
        shift, scale = new_shift, new_scale
    gamma, delta = mean.copy(), np.ones_like(variance)
    gamma[alive], delta[alive] = shift, scale
    return gamma, delta


def _power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    """A symmetric matrix to a power; directions without any spread become 0."""
    values, vectors = np.linalg.eigh(covariance)
    alive = values > values.max() * len(values) * np.finfo(np.float64).eps
    powers = np.zeros_like(values)
    powers[alive] = values[alive] ** exponent
    return (vectors * powers) @ vectors.T
