from __future__ import annotations

import numpy as np
import pytest

from cellfeat.errors import CellfeatError
from cellfeat.evaluation.profile_scores import half_half, rank_signatures

CLASSES = ("basophil", "blast", "eosinophil")


@pytest.fixture(scope="module")
def profiles():
    """Signature 3 is large in basophils, signature 7 in blasts; the others are noise."""
    rng = np.random.default_rng(0)
    label = np.array(CLASSES)[np.arange(60) % 3]
    z = rng.normal(size=(60, 12)).astype(np.float32)
    z[label == "basophil", 3] += 8
    z[label == "blast", 7] += 8
    return z, label


def test_f1_and_confusion_of_ten_halves(profiles):
    z, label = profiles
    halves = half_half(z, label)
    assert halves.f1["label"].tolist() == [*CLASSES, "macro"]
    assert halves.f1["cells"].tolist() == [20, 20, 20, 60]
    assert (halves.f1["f1"] > 0.9).all()
    assert halves.macro == pytest.approx(halves.f1["f1"].iloc[:-1].mean())
    assert halves.classes == CLASSES
    np.testing.assert_allclose(halves.confusion.sum(axis=1), 10)  # half of the twenty of each class
    assert half_half(z[:, [0, 1, 2]], label).macro < 0.6


def test_a_patient_is_in_one_half():
    patient = np.arange(60) // 6
    z = np.eye(10)[patient] * 20 + np.random.default_rng(0).normal(size=(60, 10))  # patients are known again
    label = np.array(CLASSES)[patient % 3]
    assert half_half(z, label).macro > 0.9
    assert half_half(z, label, unit=patient).macro < 0.7


def test_the_signatures_that_contribute_most_come_first(profiles):
    ranked = rank_signatures(*profiles)
    assert set(ranked["signature"][:2]) == {3, 7}
    assert ranked["importance"].is_monotonic_decreasing
    assert ranked["importance"].sum() == pytest.approx(1)


def test_one_class_is_not_enough(profiles):
    z, label = profiles
    with pytest.raises(CellfeatError, match="profiles: cells by class: blast 20; give at least two classes"):
        half_half(z[label == "blast"], label[label == "blast"])
