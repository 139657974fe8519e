from __future__ import annotations

import numpy as np
import pytest
from crop_stores import make_store

from cellfeat.core.files import sha256_file
from cellfeat.errors import Damaged
from cellfeat.methods import build, wbc_ssl


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("built-in") / "store", cells=12)


def test_it_embeds_a_store_at_once_and_tells_cells_by_more_than_stain(store, tmp_path):
    method = build("wbc-ssl")
    method.fit(store, np.arange(12), tmp_path)
    z = method.embed(store, tmp_path)
    assert (z.shape, z.dtype) == ((12, 289), np.float32)
    table = store.table()
    for name in ("site-a", "site-b"):
        np.testing.assert_allclose(z[table["domain"] == name].mean(axis=0), 0, atol=1e-5)
    likeness = np.corrcoef(z[:, :192]) - 9 * np.eye(12)
    label = table["label"].to_numpy()
    assert (label[likeness.argmax(axis=1)] == label).mean() > 0.8


def test_without_measurements_it_needs_no_mask(store, tmp_path):
    method = build("wbc-ssl", {"measurements": False, "standardise": False})
    assert method.needs == frozenset()
    assert build("wbc-ssl").needs == {"masks"}
    assert method.embed(store, tmp_path).shape == (12, 192)


def test_changed_weights_are_refused(tmp_path, monkeypatch):
    content = bytearray(wbc_ssl.WEIGHTS.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    monkeypatch.setattr(wbc_ssl, "WEIGHTS", tmp_path / "changed.safetensors")
    with pytest.raises(Damaged, match="missing or changed; install cellfeat again"):
        wbc_ssl.built_in_encoder()
    (tmp_path / "changed.safetensors").unlink()
    with pytest.raises(Damaged, match="missing or changed"):
        wbc_ssl.built_in_encoder()


def test_the_card_names_the_weights_it_describes():
    card = (wbc_ssl.WEIGHTS.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert sha256_file(wbc_ssl.WEIGHTS) == wbc_ssl.SHA256
    assert f"`{wbc_ssl.SHA256}`" in card
    assert wbc_ssl.WEIGHTS.stat().st_size < 25e6
