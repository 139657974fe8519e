from __future__ import annotations

import numpy as np
import pytest

from cellfeat.evaluation import separation as module
from cellfeat.evaluation.separation import separation

DOMAIN = np.array(["a", "b", "c"])[np.arange(90) % 3]
LABEL = np.array(["blast", "monocyte"])[np.arange(90) // 3 % 2]
NOISE = np.random.default_rng(0).normal(size=(90, 4))


def test_domains_that_lie_apart_are_told_apart():
    z = NOISE.copy()
    z[:, 0] += 20.0 * (np.arange(90) % 3)
    found = separation(z, DOMAIN, LABEL)
    assert found["domain_accuracy"] == 1
    assert found["domain_chance"] == pytest.approx(1 / 3)
    assert found["silhouette_domain"] > 0.1 > found["silhouette_class"]


def test_noise_is_near_chance_and_classes_show_in_their_silhouette():
    z = NOISE.copy()
    z += 20.0 * (LABEL == "blast")[:, None]
    found = separation(z, DOMAIN, LABEL)
    assert found["domain_accuracy"] == pytest.approx(1 / 3, abs=0.2)
    assert found["silhouette_class"] > 0.8
    assert abs(found["silhouette_domain"]) < 0.1


def test_what_there_are_too_few_of_is_not_measured():
    found = separation(NOISE, np.full(90, "a"), np.full(90, ""))
    assert np.isnan(list(found.values())).all()
    found = separation(NOISE[:0], DOMAIN[:0], LABEL[:0], unit=LABEL[:0])  # of one cell all are learned from
    assert np.isnan(list(found.values())).all()


def test_of_many_cells_some_are_measured(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 30)
    assert 0 <= separation(NOISE, DOMAIN, LABEL)["domain_accuracy"] <= 1


def test_a_patient_is_on_one_side_of_every_fold():
    patient = np.arange(90) // 9  # each patient has a mark of its own and cells of one domain
    z = np.eye(10)[patient] * 20 + np.random.default_rng(0).normal(size=(90, 10))
    domain = np.array(["a", "b"])[patient % 2]
    assert separation(z, domain, LABEL)["domain_accuracy"] > 0.9
    assert separation(z, domain, LABEL, unit=patient.astype(str))["domain_accuracy"] < 0.7
    single = np.where(domain == "a", "one patient", patient.astype(str))
    assert np.isnan(separation(z, domain, LABEL, unit=single)["domain_accuracy"])
