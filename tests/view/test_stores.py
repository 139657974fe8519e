"""Several stores on one page."""

from __future__ import annotations

import numpy as np
import pytest
from known_stores import separable
from store_helpers import cell, image, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store, write_embeddings, write_predictions
from cellfeat.view.data import Cells


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two dumps of the same four images: boxes moved by a pixel, one cell missing, one store with patients."""
    root = tmp_path_factory.mktemp("two")
    first = [image(k, [cell(k, box=np.float32([5, 5, 25, 25])), cell(k + 9)]) for k in range(4)]
    second = [
        image(k, [cell(k + 50, box=np.float32([6, 5, 26, 25]))] if k else [], metadata={"group": f"p{k}"})
        for k in range(4)
    ]
    return Store(write(root / "a" / "store", first)), Store(write(root / "b" / "store", second))


def embedded(store, path):
    table = store.table()
    write_embeddings(
        path, table["cell_id"], separable(table), {"method": "m", "config": "{}", "store_digest": store.digest}
    )
    return path


def test_cells_of_both_have_their_columns_maps_crops_and_neighbours(two, tmp_path):
    files = [embedded(store, tmp_path / f"{k}.h5") for k, store in enumerate(two)]
    cells = Cells(two, files)
    assert len(cells) == 8 + 3
    by_name = {column.name: column for column in cells.columns}
    names = [by_name["store"].names[code] for code in by_name["store"].values]
    assert names == ["a/store"] * 8 + ["b/store"] * 3
    assert [by_name["group"].names[code] for code in by_name["group"].values] == [""] * 8 + ["p1", "p2", "p3"]
    assert [one.name for one in cells.maps] == ["m of a/store", "m of b/store"]
    for row, (store, local) in {2: (two[0], 2), 9: (two[1], 1)}.items():
        np.testing.assert_array_equal(cells.stores.read("crops", [row])[0], store.read("crops", [local])[0])
        [found] = cells.card(row)["neighbours"]
        assert found["method"] == cells.maps[0 if row < 8 else 1].name
        others = {one["row"] for one in found["within"] + found["across"]}
        assert others <= (set(range(8)) if row < 8 else set(range(8, 11)))


def test_the_card_names_the_same_cell_in_the_other_store(two):
    cells = Cells(two)
    image_id, box = cells.table["image_id"], cells.table["x0"]
    row = next(k for k in range(8) if image_id[k] == image_id[8] and box[k] == 5)
    card = cells.card(row)
    assert [(one["row"], one["store"]) for one in card["twins"]] == [(8, "b/store")]
    assert 0.9 < card["twins"][0]["iou"] < 1
    assert {one["row"] for one in card["boxes"]} == {k for k in range(8) if image_id[k] == image_id[row]}


def test_files_find_their_store_and_one_store_is_shown_once(two, tmp_path):
    a, b = two
    told = {"method": "n", "config": "{}", "store_digest": b.digest}
    write_predictions(tmp_path / "p.h5", b.table()["cell_id"], ["blast"], np.ones((3, 1)), told)
    named = {column.name: column for column in Cells(two, (), [tmp_path / "p.h5"]).columns}["confidence of n"]
    assert np.isnan(named.values[:8]).all()
    assert (named.values[8:] == 1).all()
    with pytest.raises(CellfeatError, match=r"p\.h5: of another store"):
        Cells(a, (), [tmp_path / "p.h5"])
    with pytest.raises(CellfeatError, match="holds the same as another one"):
        Cells([a, Store(a.path)])
    file = embedded(a, tmp_path / "z.h5")
    with pytest.raises(CellfeatError, match="a second file of method 'm'"):
        Cells(a, [file, file])
