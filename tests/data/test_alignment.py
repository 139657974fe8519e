from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from cellfeat.data.alignment import Alignment, aligned, anchor_of, standardised
from cellfeat.errors import CellfeatError


def shifted(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """(n, 5) embeddings of two domains whose means, spreads and correlations differ."""
    rng = np.random.default_rng(0)
    domain = np.array(["a", "b"])[np.arange(n) % 2]
    z = rng.normal(size=(n, 5))
    z[domain == "b"] = z[domain == "b"] @ rng.normal(size=(5, 5)) + np.arange(5)
    return z, domain


@pytest.mark.parametrize("by", ["coral", "monge"])
def test_coral_and_monge_give_the_anchors_mean_and_covariance(by):
    z, domain = shifted(8000)  # many, so that hardly anything is shrunk
    found = aligned(z, domain, np.arange(len(z)), by, "a")
    a, b = found[domain == "a"], found[domain == "b"]
    np.testing.assert_allclose(a, z[domain == "a"], atol=1e-6)
    np.testing.assert_allclose(b.mean(axis=0), a.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.cov(b.T), np.cov(a.T), atol=0.1)


def test_coral_undoes_what_it_can_and_keeps_the_order_of_the_cells():
    z, domain = shifted()
    z[domain == "b"] = 3 * z[domain == "a"] + 2  # the same cells under another stain
    found = aligned(z, domain, np.arange(len(z)), "coral", "a")
    np.testing.assert_allclose(found[domain == "b"], z[domain == "a"], atol=0.02)


def test_combat_agrees_with_neurocombat():
    rng = np.random.RandomState(0)
    z, domain = rng.standard_normal((12, 3)), np.array(["a", "b"])[np.arange(12) % 2]
    z[domain == "b"] = z[domain == "b"] * 2 + [0, 1, 2]
    found = aligned(z, domain, np.arange(12), "combat", "a")
    # neuroCombat 0.2.12 with ref_batch="a" (under NumPy 1: it uses np.int)
    expected = [[2.22093011, 0.5551334, -1.32727005], [-0.55092954, -1.15237448, -0.35921058]]
    np.testing.assert_allclose(found[[1, 11]], expected, atol=1e-6)
    np.testing.assert_allclose(found[domain == "a"], z[domain == "a"], atol=1e-6)


def test_monge_is_the_map_of_optimal_transport():
    gaussian = pytest.importorskip("ot.gaussian", reason="POT is not installed")
    z, domain = shifted()
    own, target = z[domain == "b"], z[domain == "a"]
    covariances = [ledoit_wolf(part)[0] for part in (own, target)]
    linear, shift = gaussian.bures_wasserstein_mapping(own.mean(axis=0), target.mean(axis=0), *covariances)
    found = aligned(z, domain, np.arange(len(z)), "monge", "a")
    np.testing.assert_allclose(found[domain == "b"], own @ linear + shift, rtol=1e-5, atol=1e-5)


def test_skada_maps_alike():
    """skada moves the source, here "b", onto the target; its Gaussian map takes covariances that are not shrunk."""
    skada = pytest.importorskip("skada", reason="skada is not installed")
    z, domain = shifted(8000)
    centred = np.where((domain == "b")[:, None], z - z[domain == "b"].mean(axis=0), z - z[domain == "a"].mean(axis=0))
    sides = np.where(domain == "b", 1, -2)  # skada: sources are positive, targets negative
    adapters = {"coral": (skada.CORALAdapter(reg="auto"), 0.01), "monge": (skada.LinearOTMappingAdapter(), 0.04)}
    for by, (adapter, limit) in adapters.items():
        found = aligned(centred, domain, np.arange(len(z)), by, "a")
        theirs = np.asarray(adapter.fit_transform(centred, np.zeros(len(z)), sample_domain=sides))
        assert np.linalg.norm(found - theirs) < limit * np.linalg.norm(theirs)


@pytest.mark.parametrize("by", get_args(Alignment))
def test_statistics_come_from_the_given_rows_alone(by):
    z, domain = shifted()
    learned, other = np.arange(300), z.copy()
    other[300:] += 100
    np.testing.assert_array_equal(*(aligned(x, domain, learned, by, "a")[:300] for x in (z, other)))


@pytest.mark.parametrize("by", get_args(Alignment))
def test_constant_dimensions_and_collapsed_domains_stay_finite(by):
    z, domain = shifted(40)
    z[:, 0] = 1
    z[domain == "b"] = 7
    found = aligned(z, domain, np.arange(40), by, "a")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[domain == "b"], z[domain == "a"].mean(axis=0)[None].repeat(20, 0), atol=1e-5)


def test_an_unknown_anchor_and_a_domain_without_cells_are_named():
    z, domain = shifted(40)
    with pytest.raises(CellfeatError, match=r"anchor .c. is not a domain of the store; choose one of: a, b"):
        aligned(z, domain, np.arange(40), "coral", "c")
    with pytest.raises(CellfeatError, match="1 cells of b"):
        aligned(z, domain, np.array([0, 2, 3]), "coral", "a")


def test_standardised_gives_each_domain_mean_0_and_sd_1():
    z, domain = shifted(40)
    z[:, 0] = 0.1 + 0.2  # constant
    z[domain == "b", 1] = 1e6
    found = standardised(z, domain)
    assert not found[:, 0].any()
    assert not found[domain == "b", 1].any()
    for name in "ab":
        np.testing.assert_allclose(found[domain == name][:, 2:].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(found[domain == name][:, 2:].std(axis=0), 1, atol=1e-6)


def test_the_anchor_is_matek_19_or_has_to_be_named():
    assert anchor_of(["INT-20", "Matek-19", "Acevedo-20"], None) == "Matek-19"
    assert anchor_of(["acevedo-20", "munich"], None, {"munich": "Matek-19"}) == "munich"
    assert anchor_of(["b", "a"], "b") == "b"
    assert anchor_of(["only"], None) == "only"
    with pytest.raises(CellfeatError, match=r"anchor: not given, and Matek-19 is not among the domains; name .*: a, b"):
        anchor_of(["b", "a"], None)
