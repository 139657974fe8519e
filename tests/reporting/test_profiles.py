from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cellfeat.errors import CellfeatError
from cellfeat.reporting.profiles import half_half_f1, kernels, rank_signatures, report_profiles

CLASSES = ("basophil", "blast", "eosinophil")


@pytest.fixture
def profiles():
    """Signature 3 tells basophils, signature 7 blasts; the others are noise."""
    rng = np.random.default_rng(0)
    label = np.array(CLASSES)[np.arange(60) % 3]
    z = rng.normal(size=(60, 12)).astype(np.float32)
    z[label == "basophil", 3] += 8
    z[label == "blast", 7] += 8
    return z, label


def test_f1_of_ten_halves(profiles):
    z, label = profiles
    table = half_half_f1(z, label)
    assert table["label"].tolist() == [*CLASSES, "macro"]
    assert table["cells"].tolist() == [20, 20, 20, 60]
    assert (table["f1"] > 0.9).all()
    assert table["f1"].iloc[-1] == pytest.approx(table["f1"].iloc[:-1].mean())
    noise = half_half_f1(z[:, [0, 1, 2]], label)
    assert noise["f1"].iloc[-1] < 0.6


def test_the_signatures_that_tell_come_first(profiles):
    ranked = rank_signatures(*profiles)
    assert set(ranked["signature"][:2]) == {3, 7}
    assert ranked["importance"].is_monotonic_decreasing
    assert ranked["importance"].sum() == pytest.approx(1)


def test_the_report_leaves_tables_and_figures(profiles, tmp_path):
    z, label = profiles
    label = np.concatenate([label, ["", ""]])
    z = np.concatenate([z, z[:2] * 1e6])  # without a label they are left out
    domain = np.array(["site-a", "site-b"])[np.arange(62) % 2]
    dictionary = np.random.default_rng(0).normal(size=(3 * 4 * 4, 12))
    f1 = report_profiles(z, label, domain, tmp_path, dictionary)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "f1.csv"), f1)
    assert len(pd.read_csv(tmp_path / "signatures.csv")) == 12
    for name in ("dictionary", "class_means", "heat_map", "tsne", "lda"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size[0] > 300


def test_a_kernel_is_shown_in_its_colours():
    red = np.zeros((3, 4, 4))
    red[0] = 1
    with Image.open(io.BytesIO(kernels(red.reshape(-1, 1)))) as picture:
        assert picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2)) == (255, 0, 0)


def test_one_class_is_not_enough(profiles):
    z, label = profiles
    with pytest.raises(CellfeatError, match=r"profiles: classes \{'blast': 20\}: two cells of two needed"):
        half_half_f1(z[label == "blast"], label[label == "blast"])
