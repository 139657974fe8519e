from __future__ import annotations

import json

import numpy as np
import pytest
from crop_stores import make_store

from cellfeat.data.measurements import measurement_names
from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.methods.base import embed_with
from cellfeat.store import read_embeddings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("measured") / "store", cells=12)


def test_each_domain_has_mean_0_and_sd_1(store, tmp_path):
    method = build("measurements")
    embed_with(method, store, np.arange(6), tmp_path / "fit", tmp_path / "z.h5")
    found = read_embeddings(tmp_path / "z.h5")
    assert json.loads(found.attributes["names"]) == list(measurement_names("px"))
    z = found.of(store.table()["cell_id"])
    for name in ("site-a", "site-b"):
        part = z[store.table()["domain"] == name]
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-6)
        assert set(part.std(axis=0).round(4)) <= {0, 1}


def test_lengths_are_those_of_the_image(store, tmp_path):
    def area(**settings):
        method = build("measurements", {"standardise": False, **settings})
        return method.embed(store, tmp_path)[:, measurement_names("px").index("cell_area_px2")]

    px = area(crop_margin=0)
    np.testing.assert_array_equal(px, store.read("masks", slice(None)).sum((1, 2)))  # the box is the crop here
    np.testing.assert_allclose(area(crop_margin=0.5), 4 * px, rtol=1e-6)
    scale = {"site-a": 0.1, "site-b": 0.2}
    factors = store.table()["domain"].map(scale).to_numpy() ** 2
    np.testing.assert_allclose(area(crop_margin=0, um_per_px=scale), px * factors, rtol=1e-6)


def test_an_unknown_margin_or_scale_is_said(store, tmp_path):
    with pytest.raises(CellfeatError, match="margin of its crops; set crop_margin"):
        build("measurements", {"standardise": False}).embed(store, tmp_path)
    with pytest.raises(CellfeatError, match="um_per_px has no value for the domain 'site-b'"):
        build("measurements", {"crop_margin": 0, "um_per_px": {"site-a": 0.1}}).embed(store, tmp_path)
