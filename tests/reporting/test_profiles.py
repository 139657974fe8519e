from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from known_stores import make_store
from PIL import Image

from cellfeat.core.files import write_json
from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.reporting.profile_plots import kernels
from cellfeat.reporting.profiles import profile
from cellfeat.store import write_embeddings

FIGURES = {"f1", "confusion", "class_means", "heat_map", "tsne", "lda", "dictionary", "reconstructions"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    store = make_store(folder / "store", {"a": ("blast", "neutrophil_band"), "b": ("",)}, per_class=8)
    method = build("psd", {"kernels": 12, "patch": 6, "iterations": 2, "patches": 100, "code_steps": 5})
    method.fit(store, np.arange(len(store)), folder / "fit")
    return store, folder / "fit", method


def test_all_figures_and_tables_of_the_article_are_written(fitted, tmp_path):
    store, folder, _ = fitted
    attributes = {"method": "rcnn", "config": "{}", "store_digest": store.digest}
    z = np.random.default_rng(0).normal(size=(len(store), 3))
    write_embeddings(tmp_path / "rcnn.h5", store.table()["cell_id"], z, attributes)
    output = profile(store, folder, tmp_path / "out", [tmp_path / "rcnn.h5"])
    assert {path.stem for path in output.glob("*.png")} == FIGURES
    for path in output.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 150, path.name
    f1 = pd.read_csv(output / "f1.csv")
    assert f1.groupby("method")["cells"].max().to_dict() == {"psd": 16, "rcnn": 16}  # unlabelled cells are left out
    assert len(pd.read_csv(output / "signatures.csv")) == 12
    pooling = pd.read_csv(output / "pooling.csv").set_index("pooling")
    assert pooling["macro_f1"].idxmax() == pooling.index[pooling["chosen"]][0]
    counts = pd.read_csv(output / "confusion.csv", index_col="true")
    assert counts.to_numpy().sum() == pytest.approx(8)  # half of the cells


def test_a_cell_is_drawn_from_its_codes_in_its_place(fitted):
    store, folder, method = fitted
    drawn = method.reconstruct(store, np.arange(4), folder)
    assert drawn.shape == (4, 16, 16, 3)
    assert drawn.dtype == np.uint8
    crops = store.read("crops", np.arange(4)).astype(float)
    assert np.abs(drawn - crops).mean() < np.abs(crops - crops.mean()).mean() * 1.1  # no worse than the mean colour


def test_another_method_is_refused(fitted, tmp_path):
    store = fitted[0]
    write_json(tmp_path / "fit.json", {"inputs": {"method": "rcnn", "store_digest": store.digest, "config": {}}})
    with pytest.raises(CellfeatError, match="rcnn has no signatures; give the folder of a fitted psd"):
        profile(store, tmp_path, tmp_path / "out")


def test_ranked_kernels_come_first_in_their_colours_and_are_marked():
    red, blue = np.zeros((3, 4, 4)), np.zeros((3, 4, 4))
    red[0], blue[2] = 1, 1
    dictionary = np.stack([blue.ravel(), red.ravel(), blue.ravel(), blue.ravel()], axis=1)
    with Image.open(io.BytesIO(kernels(dictionary, [1]))) as picture:
        pixels = np.array(picture.convert("RGB"))
    height, width = pixels.shape[:2]
    assert tuple(pixels[height // 4, width // 4]) == (255, 0, 0)
    assert tuple(pixels[height // 4, 3 * width // 4]) == (0, 0, 255)
    marked = np.abs(pixels.astype(int) - (0xD1, 0x24, 0x2F)).max(axis=2) < 30
    assert marked[: height // 2 + 4, : width // 2 + 4].any()
    assert not marked[height // 2 + 6 :, width // 2 + 6 :].any()
