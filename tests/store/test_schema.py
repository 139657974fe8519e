"""One table of elements: the document shows it, and one more line in it is a column everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, smear, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store, StoreWriter, schema
from cellfeat.store.copying import merge, subset
from cellfeat.store.diff import diff
from cellfeat.store.export import export
from cellfeat.store.inspect import describe
from cellfeat.store.schema import ELEMENTS, Element

DOCUMENT = (Path(__file__).parents[2] / "docs/store-format.md").read_text(encoding="utf-8")


def form(element: Element) -> str:
    """Shape of the whole dataset as the document writes it."""
    sizes = ["m" if element.of_image else "n", *map(str, element.shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.name)
def test_the_document_shows_every_element_as_the_schema_has_it(element):
    assert f"| `{element.name}` | {form(element)} | {element.dtype} | {element.meaning} |" in DOCUMENT
    if not element.is_text:
        said = f"| `{element.name}` | `{element.encoding}` | {element.encoding_version} | {element.unit} |"
        assert said in DOCUMENT


def test_the_document_shows_nothing_else():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    shown = [line.split("`")[1] for line in rows if line.count("|") == 5 and ("| (n" in line or "| (m" in line)]
    assert [name for name in shown if name not in ("z", "probabilities", "classes")] == [
        *(element.name for element in ELEMENTS),
        "cell_id",  # of an embeddings file
    ]


AREA = Element("area", "float32", "of the nucleus", unit="px²", bounds=(0, 1e6), columns=("area",), default=-1.0)


@pytest.fixture
def with_area(monkeypatch):
    """The schema with one line more."""
    monkeypatch.setattr(schema, "ELEMENTS", (*ELEMENTS, replace(AREA, default=0.0)))


def test_one_line_more_is_a_column_everywhere(with_area, tmp_path):
    images = smear()
    for k, cell in enumerate(cell for image in images for cell in image.cells):
        cell.further = {"area": float(k)}
    path = write(tmp_path / "store", images)
    store = Store(path)
    areas = {f"{i.image_id}#{k}": c.further["area"] for i in images for k, c in enumerate(sorted_cells(i))}
    assert store.verify() == []
    assert dict(zip(store.table()["cell_id"], store.table()["area"])) == areas
    np.testing.assert_array_equal(store.read("area", [3, 1]), store.table()["area"][[3, 1]])
    north = subset(store, tmp_path / "north", domain="north")
    merged = merge([north, subset(store, tmp_path / "south", domain="south")], tmp_path / "merged")
    assert not diff(store, merged)
    assert "area" in describe(merged)
    exported = pd.read_csv(export(merged, tmp_path / "table.csv"), index_col="cell_id")
    assert exported["area"].to_dict() == areas
    images[1].cells[0].further = {"area": 0.5}
    changed = diff(store, Store(write(tmp_path / "changed", images)))
    assert [words.split()[0] for words in changed.changed.values()] == ["area"]


def sorted_cells(image):
    return sorted(image.cells, key=lambda cell: -cell.score)


def test_a_store_without_the_column_has_its_default(tmp_path, monkeypatch):
    path = write(tmp_path / "store", smear())
    monkeypatch.setattr(schema, "ELEMENTS", (*ELEMENTS, replace(AREA, default=0.0)))
    assert Store(path).table()["area"].tolist() == [0.0] * 18
    assert Store(path).verify() == []


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({"area": -3.0}, "area hold -3; give 0 to 1e"),
        ({"area": float("nan")}, "area"),
        ({"area": [1.0, 2.0]}, r"area of shape \(2,\)"),
        ({"volume": 1.0}, "'volume' is no element of a store"),
    ],
)
def test_values_that_the_schema_does_not_allow(with_area, tmp_path, further, words):
    image = smear()[1]
    image.cells[0].further = further
    with StoreWriter(tmp_path / "store", SHAPE, SIDE, PROVENANCE) as writer, pytest.raises(CellfeatError, match=words):
        writer.add(image)
