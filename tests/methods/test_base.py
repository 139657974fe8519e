from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.methods import build
from cellfeat.methods.base import demand, embed_with, predict_with
from cellfeat.store import read_embeddings, read_predictions


class Config(BaseModel):
    weights: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Constant:
    """Calls every cell by the first class."""

    config: Config
    needs: frozenset[str] = frozenset()
    adapts: bool = False
    Config = Config
    kind = "prediction"
    name = "constant"

    def fit(self, store, rows, folder, target_rows):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "seen.json").write_text(json.dumps([rows.tolist(), target_rows.tolist()]))

    def predict(self, store, rows, folder):
        return ("blast", "monocyte"), np.tile(np.float32([0.75, 0.25]), (len(rows), 1))


def test_embeddings_are_written_with_what_made_them(store, tmp_path):
    method = build("rcnn")
    found = read_embeddings(embed_with(method, store, np.arange(3), tmp_path / "rcnn", tmp_path / "rcnn.h5"))
    assert found.cell_id.tolist() == store.table()["cell_id"].tolist()
    made_by = {"method": "rcnn", "config": "{}", "store_digest": store.digest, "fitted_sha256": ""}
    assert found.attributes == made_by
    np.testing.assert_array_equal(found.z, method.embed(store, tmp_path))


@pytest.mark.parametrize("adapts", [False, True])
def test_predictions_are_written_and_targets_shown_to_those_that_adapt(store, tmp_path, adapts):
    method = Constant(Config(), adapts=adapts)
    rows, target, test = np.arange(3), np.arange(3, 6), np.array([8, 6])
    found = read_predictions(predict_with(method, store, rows, target, test, tmp_path / "c", tmp_path / "c.h5"))
    assert found.cell_id.tolist() == store.table()["cell_id"].to_numpy()[test].tolist()
    assert found.labels.tolist() == ["blast", "blast"]
    assert json.loads((tmp_path / "c" / "seen.json").read_text()) == [[0, 1, 2], [3, 4, 5] if adapts else []]


@pytest.mark.parametrize(
    ("needs", "config", "rows", "words"),
    [
        ("labels", {}, [0, 2], "labels: 1 of the classes"),
        ("masks", {}, [0, 1], "masks: every mask of the store"),
        ("weights", {}, [0, 1], "weights: give the path"),
        ("weights", {"weights": "none.pth"}, [0, 1], "weights: none.pth: no such file"),
    ],
)
def test_what_a_method_lacks_is_named(store, tmp_path, needs, config, rows, words):
    method = Constant(Config(**config), frozenset({needs}))
    with pytest.raises(MissingRequirement, match=f"constant: lacks {words}") as stop:
        demand(method, store, np.array(rows))
    assert stop.value.lacking == needs
    with pytest.raises(MissingRequirement, match=f"constant: lacks {words}"):
        predict_with(method, store, np.array(rows), np.arange(0), np.arange(2), tmp_path / "c", tmp_path / "c.h5")
    assert not (tmp_path / "c").exists()


def test_nothing_lacks_where_labels_and_weights_are_given(store, tmp_path):
    (tmp_path / "w.pth").touch()
    method = Constant(Config(weights=tmp_path / "w.pth"), frozenset({"labels", "weights"}))
    demand(method, store, np.arange(2))


def test_an_unknown_method_or_setting_is_named():
    with pytest.raises(CellfeatError, match=r"'rcn': there is none .* colour, .*rcnn"):
        build("rcn")
    with pytest.raises(CellfeatError, match="colour: bin: unknown key"):
        build("colour", {"bin": 3})
