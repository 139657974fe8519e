from __future__ import annotations

import logging

import numpy as np
import pytest
from known_stores import make_store, separable
from page import check_page

from cellfeat.errors import CellfeatError
from cellfeat.reporting.explore import explore
from cellfeat.store import ImageResult, Store, StoreWriter, write_embeddings

FIGURES = {"classes.png", "mean_images.png", "colours.png"}


def test_every_figure_is_a_file_and_on_the_page(store, embedding_files, tmp_path, caplog):
    caplog.set_level(logging.INFO, "cellfeat")
    text, page = check_page(explore(store, embedding_files[:1], tmp_path / "out"))
    maps = {"map_2d_aecfe.png", "map_3d_aecfe.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == FIGURES | maps | {"explore.html"}
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in FIGURES | maps)
    assert len(page.attributes("src")) == 5
    assert "105 of 105 cells; 3 dimensions drawn in two and in three" in text
    assert "105 cells of 3 domains in 5 figures" in caplog.text


def test_without_embeddings_the_rest_stands(store, tmp_path):
    text, page = check_page(explore(store, (), tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == FIGURES | {"explore.html"}
    assert "No embeddings were given." in text
    assert len(page.attributes("src")) == 3


def test_a_handful_of_cells_with_hostile_names(tmp_path):
    store = make_store(tmp_path / "store", {"<b>site": ("<i>x", "$x^{$ & 'c'")}, per_class=2)
    table = store.table()
    attributes = {"method": "<u>m", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"].to_numpy(str), separable(table), attributes)
    text, _ = check_page(explore(store, [tmp_path / "z.h5"], tmp_path / "out"))
    assert "&lt;b&gt;site" in text
    assert "Not drawn: 4 cells, 10 are needed." in text


def test_a_collapsed_embedding_is_said_to_be_one(store, tmp_path):
    attributes = {"method": "aecfe", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", store.table()["cell_id"], np.full((len(store), 50), 0.5), attributes)
    text, _ = check_page(explore(store, [tmp_path / "z.h5"], tmp_path / "out"))
    assert "Not drawn: the embeddings of all 105 cells are equal: the method has collapsed." in text


def test_a_store_without_cells_is_refused(tmp_path):
    with StoreWriter(tmp_path / "store", (4, 3, 3), 16, {}) as writer:
        writer.add(ImageResult("a/0.png", "a", "", 32, 32, "", []))
    with pytest.raises(CellfeatError, match="holds no cell"):
        explore(Store(tmp_path / "store"), (), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_embeddings_of_other_cells_are_refused_before_anything_is_drawn(store, tmp_path):
    ids = store.table()["cell_id"].to_numpy(str)
    for digest, message in (("0" * 64, "another store"), (store.digest, "lacks 1 of 105 cells")):
        attributes = {"method": "aecfe", "config": "{}", "store_digest": digest}
        write_embeddings(tmp_path / "z.h5", ids[1:], np.zeros((len(ids) - 1, 2)), attributes)
        with pytest.raises(CellfeatError, match=message):
            explore(store, [tmp_path / "z.h5"], tmp_path / "out")
        assert not (tmp_path / "out").exists()
