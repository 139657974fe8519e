"""What the page shows of a store."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from view_names import HOSTILE

from cellfeat.errors import CellfeatError
from cellfeat.store import read_embeddings, write_embeddings, write_predictions
from cellfeat.view import columns, maps
from cellfeat.view.data import Cells


def test_columns_hold_a_value_of_every_cell(view_cells):
    table = view_cells.table
    by_name = {column.name: column for column in view_cells.columns}
    for name in ("domain", "label", "group"):
        column = by_name[name]
        assert [column.names[code] for code in column.values] == table[name].tolist()
        assert len(column.names) == len(column.colours) == len(column.shown)
    assert by_name["label"].names[:2] == ["blast", "promyelocyte"]  # every class can be chosen
    np.testing.assert_allclose(by_name["score"].values, table["score"])
    predicted = by_name[f"predicted by {HOSTILE}"]
    assert [predicted.names[code] for code in predicted.values] == ["", *["blast"] * (len(table) - 1)]
    confidence = by_name[f"confidence of {HOSTILE}"].values
    assert np.isnan(confidence[0])
    assert (confidence[1:] == 0.75).all()


def test_metadata_are_numbers_only_where_all_are():
    many = np.array([str(k / 2) for k in range(20)] + [""])
    assert columns.texts("dose", many).is_number
    assert not columns.texts("dose", np.array([*many, "unknown"])).is_number
    assert not columns.texts("dose", np.array(["1", "2", "1"])).is_number  # few values are names
    assert columns.texts("id", np.array([f"x{k}" for k in range(columns.MAX_NAMES + 1)])) is None


def test_a_map_is_read_where_it_was_kept(view_cells, view_files):
    [path], _ = view_files
    [one] = view_cells.maps
    assert np.isnan(one.points[0]).all()
    assert abs(one.points[1:]).max() == pytest.approx(0.95)
    assert json.loads(str(maps.read_matrix(maps.kept_at(path), maps.KIND).attributes["config"])) == maps.config_of(path)


def test_without_ten_cells_or_files_the_page_has_something_to_show(view_store, view_cells, tmp_path):
    assert Cells(view_store).maps[0].name == "size and score"
    cell_id = np.array(["a", "b"])
    path = tmp_path / "few.h5"
    write_embeddings(path, cell_id, np.eye(2), {"method": "few", "config": "{}", "store_digest": ""})
    few = maps.map_of(path, "few", np.eye(2), cell_id, cell_id, "")
    assert "10 are needed" in few.reason
    assert np.isnan(few.points).all()


def test_neighbours_are_the_nearest_within_and_across_laboratories(view_cells, view_files):
    z = read_embeddings(view_files[0][0]).of(view_cells.table["cell_id"])
    domain = view_cells.table["domain"].to_numpy()
    away = np.linalg.norm(z - z[3], axis=1)
    [found] = view_cells.card(3)["neighbours"]
    for name, others in (("within", domain == domain[3]), ("across", domain != domain[3])):
        expected = sorted((away[row], row) for row in np.flatnonzero(others) if row != 3)[:6]
        assert [one["row"] for one in found[name]] == [row for _, row in expected]
        assert [one["distance"] for one in found[name]] == pytest.approx([one for one, _ in expected], abs=1e-4)


def test_a_card_has_the_place_and_the_probabilities(view_cells):
    card = view_cells.card(1)
    table = view_cells.table
    assert card["cell_id"] == table["cell_id"][1]
    assert card["image"] == {"width": 90, "height": 60}
    same = np.flatnonzero(table["image_id"] == table["image_id"][1])
    assert sorted(one["row"] for one in card["boxes"]) == same.tolist()
    assert card["predictions"][0]["classes"][0] == {"class": "blast", "probability": 0.75}
    assert view_cells.card(0)["predictions"] == []
    json.dumps(card)


def test_an_outline_is_drawn_on_the_mask_alone(view_cells):
    def picture(outline):
        return np.asarray(Image.open(io.BytesIO(view_cells.crop(2, outline))))

    [crop], [mask] = (view_cells.store.read(name, [2]) for name in ("crops", "masks"))
    assert np.array_equal(picture(False), crop)
    changed = (picture(True) != crop).any(axis=2)
    assert changed.any()
    assert (mask[changed] == 1).all()


def test_files_of_another_store_are_refused(view_store, tmp_path):
    table = view_store.table()
    other = {"method": "a", "config": "{}", "store_digest": "0" * 64}
    names = table["cell_id"].to_numpy(str)
    write_embeddings(tmp_path / "z.h5", names, np.eye(len(names)), other)
    write_predictions(tmp_path / "p.h5", names, ["blast"], np.ones((len(names), 1)), other)
    for files in (([tmp_path / "z.h5"], []), ([], [tmp_path / "p.h5"])):
        with pytest.raises(CellfeatError, match="another store"):
            Cells(view_store, *files)
