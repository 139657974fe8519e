from __future__ import annotations

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from crop_stores import CLASSES, make_store
from PIL import Image

from cellfeat.cli import main
from cellfeat.core.files import read_json, write_json, write_text
from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.reporting.explain import explain
from cellfeat.store import Store

NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A store of 24 cells of three classes at two sites, and a folder of networks that learned a little from it."""
    root = tmp_path_factory.mktemp("explain")
    store = make_store(root / "store")
    build("resnext", {"model": "resnet18", "size": 32, "epochs": 1}).fit(store, np.arange(24), root / "resnext", NONE)
    site_a = store.select(domain="site-a")
    build("mdd", {"epochs": 1, "width": 16}).fit(store, site_a[:8], root / "mdd", site_a[8:])
    return store, root


def test_every_class_of_every_domain_is_shown(fitted, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    store, root = fitted
    assert explain(store, root / "resnext", tmp_path / "out") == tmp_path / "out" / "sheet.png"
    cells = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert (cells.groupby(["label", "domain"]).size() == 2).all()
    assert len(cells) == 2 * 3 * 2
    classes, probabilities = build("resnext", {"model": "resnet18", "size": 32, "epochs": 1}).predict(
        store, np.arange(24), root / "resnext"
    )
    assert classes == CLASSES
    table = store.table()
    for cell in cells.itertuples():
        row = table.index[table["cell_id"] == cell.cell_id][0]
        assert cell.picture == f"{row:06d}_{cell.label}_as_{cell.named}.png"
        assert (cell.domain, cell.label) == (table["domain"][row], table["label"][row])
        assert cell.probability == pytest.approx(probabilities[row].max(), abs=1e-3)  # of other batches, 4 digits
        shown = np.asarray(Image.open(tmp_path / "out" / cell.picture))
        assert shown.shape == (32, 64, 3)
        np.testing.assert_array_equal(shown[:, :32], store.read("crops", [row])[0])
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 4 * 2 * 112
        assert sheet.height > 3 * 112


def test_the_command_shows_the_cells_that_are_named(fitted, tmp_path, capsys):
    pytest.importorskip("pytorch_grad_cam")
    store, root = fitted
    asked = ["site-b/007.png#0", "site-a/002.png#0"]
    arguments = ["explain", str(store.path), str(root / "resnext"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--cell", asked[0], "--cell", asked[1]])
    assert not stop.value.code
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "sheet.png")
    assert pd.read_csv(tmp_path / "out" / "cells.csv")["cell_id"].tolist() == asked


def test_a_split_leaves_out_what_was_learned_from(fitted, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    store, root = fitted
    cell_id = store.table()["cell_id"]
    unseen = set(cell_id[20:])
    lines = [f"{name},{'test' if name in unseen else 'train'}" for name in cell_id]
    write_text(tmp_path / "split.csv", "\n".join(["cell_id,part", *lines]))
    explain(store, root / "resnext", tmp_path / "out", per_class=9, split=tmp_path / "split.csv")
    assert set(pd.read_csv(tmp_path / "out" / "cells.csv")["cell_id"]) == unseen


def test_a_network_that_adapts_is_shown_the_domains_that_it_knows(fitted, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    store, root = fitted
    explain(store, root / "mdd", tmp_path / "out", per_class=1)
    assert set(pd.read_csv(tmp_path / "out" / "cells.csv")["domain"]) == {"site-a"}
    with pytest.raises(CellfeatError, match=r"site-b/003.png#0: .*mdd was not fitted for its domain, site-b"):
        explain(store, root / "mdd", tmp_path / "other", ["site-b/003.png#0"])


def test_what_cannot_be_shown_is_refused(fitted, tmp_path, monkeypatch):
    store, root = fitted

    def refused(words, folder=root / "resnext", on=store, **options):
        with pytest.raises(CellfeatError, match=words) as error:
            explain(on, folder, tmp_path / "out", **options)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    refused(r"fit.json: no such file; give the folder that a method was fitted in; there is .*mdd, one of 2", root)
    refused(r"none/fit.json: no such file; give the folder that a method was fitted in$", root / "none")
    refused("lacks 1 of 2 cells, the first is 'site-c/1'", cell_ids=["site-b/007.png#0", "site-c/1"])
    refused("per_class: 0 cells of a class", per_class=0)
    other = make_store(tmp_path / "other", seed=1)
    refused("fit.json: fitted on another store than .*other", on=other)
    inputs = {"method": "psd", "store_digest": store.digest}
    write_json(tmp_path / "psd" / "fit.json", {"inputs": inputs, "done": True})
    refused("psd cannot be explained; mdd, resnext and finetune:<model> can", tmp_path / "psd")
    write_json(tmp_path / "odd" / "fit.json", [1])
    refused("odd/fit.json: names no method", tmp_path / "odd")
    shutil.copytree(root / "resnext", tmp_path / "part")
    (tmp_path / "part" / "weights.safetensors").unlink()
    refused("part/weights.safetensors: no such file; fit the method first", tmp_path / "part")
    (tmp_path / "part" / "model.json").unlink()
    refused("part/model.json: no such file; fit the method first, to its end", tmp_path / "part")
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    refused(r"pytorch-grad-cam is not installed; pip install 'cellfeat\[explain\]'")


def test_a_folder_tells_the_method_and_its_settings(fitted):
    store, root = fitted
    assert "model" in read_json(root / "resnext" / "fit.json")["inputs"]["config"]
    from cellfeat.methods.folder import reopen

    assert reopen(root / "resnext", Store(store.path)) == build(
        "resnext", {"model": "resnet18", "size": 32, "epochs": 1}
    )
