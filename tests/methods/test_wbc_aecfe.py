from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cellfeat.core.files import sha256_file
from cellfeat.detection.checkpoint import BUILT_IN_SHA256
from cellfeat.errors import CellfeatError
from cellfeat.methods import build, wbc_aecfe
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter
from cellfeat.store.copying import merge


def a_store(folder: Path, weights: str, domain: str = "site") -> Store:
    rng, mask, box = np.random.default_rng(0), np.ones((16, 16), np.uint8), np.array([0, 0, 16, 16], np.float32)
    with StoreWriter(folder, (256, 14, 14), 16, {"weights_sha256": weights}) as writer:
        for k in range(6):
            crop = rng.integers(0, 256, (16, 16, 3), np.uint8)
            cell = CellRow(rng.normal(size=(256, 14, 14)), crop, mask, box, 0.5, "")
            writer.add(ImageResult(f"{domain}/{k}.png", domain, "", 16, 16, "", [cell]))
    return Store(folder)


def test_it_embeds_what_the_built_in_detector_found_at_once(tmp_path):
    store, method = a_store(tmp_path / "store", BUILT_IN_SHA256), build("wbc-aecfe")
    method.fit(store, np.arange(6), tmp_path)
    z = method.embed(store, tmp_path)
    assert (z.shape, z.dtype) == ((6, 50), np.float32)
    assert np.abs(z).max() <= 1
    assert z.std(axis=0).min() > 0
    assert method.reconstruct(store, np.arange(2), tmp_path).shape == (2, 128, 128, 3)
    assert json.loads(method.provenance(tmp_path)["config"])["preset"] == "transfer"


def test_features_of_another_detector_are_refused(tmp_path):
    ours = a_store(tmp_path / "ours", BUILT_IN_SHA256)
    other = a_store(tmp_path / "other", "0" * 64, "elsewhere")
    both = merge([ours, other], tmp_path / "both")
    for store in (other, both):
        with pytest.raises(CellfeatError, match=f"{store.path}: its features are of another detector"):
            build("wbc-aecfe").embed(store, tmp_path)


def test_the_card_names_the_weights_it_describes():
    card = wbc_aecfe.WEIGHTS.with_name("WBC_AECFE.md").read_text(encoding="utf-8")
    assert sha256_file(wbc_aecfe.WEIGHTS) == wbc_aecfe.SHA256
    assert f"`{wbc_aecfe.SHA256}`" in card
    assert f"`{BUILT_IN_SHA256}`" in card
    assert wbc_aecfe.WEIGHTS.stat().st_size < 10e6
