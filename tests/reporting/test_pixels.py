from __future__ import annotations

import sys

import numpy as np
import pytest
from known_stores import make_store

from cellfeat.reporting.pixels import BINS, read_pixels
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter


@pytest.mark.parametrize("batch", [7, 1000])
def test_mean_image_is_the_mean_of_the_crops_however_they_are_read(store, batch):
    pixels, table = read_pixels(store, batch), store.table()
    assert set(pixels.mean) == set(zip(table["label"], table["domain"]))
    for (label, domain), image in pixels.mean.items():
        rows = store.select(domain=domain, label=label)
        np.testing.assert_allclose(image, store.read("crops", rows).mean(axis=0), rtol=1e-12)


def test_histograms_are_shares_of_the_crop_and_of_the_mask(store):
    pixels = read_pixels(store, batch=10)
    assert set(pixels.crop) == set(pixels.mask) == {"site-a", "site-b", "bare"}
    for domain in pixels.crop:
        rows = store.select(domain=domain)
        crops, masks = store.read("crops", rows), store.read("masks", rows) > 0
        for shares, chosen in ((pixels.crop[domain], crops.reshape(-1, 3)), (pixels.mask[domain], crops[masks])):
            np.testing.assert_allclose(shares.sum(axis=1), 1)
            for k in range(3):
                expected = np.histogram(chosen[:, k], BINS, (0, 256))[0] / len(chosen)
                np.testing.assert_allclose(shares[k], expected)


def test_a_mask_holds_its_own_colour_and_an_empty_one_none(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2] = 1
    crop = np.where(mask[..., None], np.array([10, 100, 255]), 200).astype(np.uint8)
    with StoreWriter(tmp_path / "store", (1, 1, 1), 8, {}) as writer:
        for domain, outline in (("masked", mask), ("bare", 0 * mask)):
            cell = CellRow(np.zeros((1, 1, 1)), crop, outline, np.array([0, 0, 8, 8], np.float32), 0.9, "")
            writer.add(ImageResult(f"{domain}/0.png", domain, "", 8, 8, "", [cell]))
    pixels = read_pixels(Store(tmp_path / "store"))
    assert pixels.mask["masked"].argmax(axis=1).tolist() == [10 // 4, 100 // 4, 255 // 4]
    assert pixels.crop["masked"][0, 200 // 4] == 0.75
    assert np.isnan(pixels.mask["bare"]).all()


def test_progress_counts_every_cell(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    store = make_store(tmp_path / "store", {"site-a": ("blast",)}, per_class=5)
    read_pixels(store, batch=2)
    assert "5/5" in capsys.readouterr().err
