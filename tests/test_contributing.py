"""The examples of CONTRIBUTING.md work as they are printed (that of a report's section: tests/reporting)."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from crop_stores import make_store
from PIL import Image

from cellfeat.cli import app, store
from cellfeat.cli.command import Command
from cellfeat.data.catalogue import open_dataset
from cellfeat.detection.structures import CellInstances
from cellfeat.methods import build, describe, registry
from cellfeat.methods.base import embed_with
from cellfeat.store import ImageResult, Store, StoreWriter, read_embeddings, schema
from cellfeat.workflows import dump_cells
from cellfeat.workflows.dump_config import DumpConfig

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def examples(title: str) -> list[str]:
    """The code blocks of a section."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)


def test_a_method_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    [text] = examples("A method, from outside the package")
    (tmp_path / "stain_of_cells.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import_module("stain_of_cells")
    assert describe("stain").title == "Colour percentiles"
    cells = make_store(tmp_path / "store", cells=4)
    output = embed_with(build("stain", {"percentile": 100}), cells, np.arange(4), tmp_path / "fit", tmp_path / "z.h5")
    np.testing.assert_array_equal(read_embeddings(output).z, cells.read("crops", slice(None)).max(axis=(1, 2)))


def test_the_test_of_the_page_on_new_methods(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs/guides/new-method.md").read_text(encoding="utf-8")
    line, text = (dedent(block) for block in re.findall(r"^   ```python\n(.*?)^   ```", page, re.DOTALL | re.MULTILINE))
    [method] = examples("A method, from outside the package")
    module = ModuleType("cellfeat.methods.stain")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(method.replace('@register("stain")\n', ""), vars(module))
    monkeypatch.setattr(registry, "_BUILT_IN", registry._BUILT_IN | eval(f"{{{line}}}"))
    names: dict[str, Any] = {}
    exec(text, names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    test(make_store(tmp_path / "store", cells=4), tmp_path)


def test_a_dataset(tmp_path):
    [text] = examples("A dataset")
    folder = tmp_path / "my-site"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "pictures" / "a.png")
    (folder / "labels.csv").write_text("file,class\na.png,monocyte\n")
    (folder / "dataset.yaml").write_text(text)
    [record] = open_dataset("my-site", tmp_path).records()
    assert (record.image_id, record.domain, record.label) == ("my-site/a.png", "my-hospital", "monocyte")


def test_a_column_of_the_store(tmp_path, monkeypatch):
    line, row = examples("A column of the store")
    monkeypatch.setattr(schema, "ELEMENTS", (*schema.ELEMENTS, eval(line, vars(schema))))
    source, count = re.subn(
        r"^( +)return CellRow\(.*\)$",
        lambda found: "\n".join(found[1] + part for part in row.splitlines()),
        inspect.getsource(dump_cells.cell_row),
        flags=re.MULTILINE,
    )
    assert count == 1
    names = dict(vars(dump_cells))
    exec("from __future__ import annotations\n" + source, names)
    masks = np.zeros((1, 20, 20), bool)
    masks[0, 5:9, 5:10] = True
    found = CellInstances(
        (20, 20), np.array([[5, 5, 10, 9]], np.float32), np.ones(1, np.float32), masks, np.zeros((1, 2, 1, 1))
    )
    cell = names["cell_row"](np.zeros((20, 20, 3), np.uint8), found, 0, "", DumpConfig(crop_size=16), [])
    result = ImageResult("a.png", "site", "", 20, 20, cells=[cell])
    with StoreWriter(tmp_path / "store", (2, 1, 1), 16, {}) as writer:
        writer.add(result)
    assert Store(tmp_path / "store").table()["mask_area"].tolist() == [20]


def test_a_command(tmp_path, capsys, monkeypatch):
    [text] = examples("A command")
    names = dict(vars(store))
    exec("from __future__ import annotations\n" + text, names)
    added = names["classes"]
    assert isinstance(added, Command)
    monkeypatch.setitem(app.ALL, added.name, added)
    make_store(tmp_path / "store", cells=4)
    with pytest.raises(SystemExit) as stop:
        app.main(["classes", str(tmp_path / "store")])
    assert stop.value.code == 0
    assert capsys.readouterr().out.split() == ["basophil", "2", "blast", "2"]
