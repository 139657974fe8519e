"""Cells of sites without labels, named from a site with labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from known_stores import CLASSES, make_store, separable

from cellfeat.cli import main
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.store import Store, read_predictions, write_embeddings
from cellfeat.workflows.naming import name_cells, unusual


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two sites with labels and one without; an embedding that separates the classes, alike at all sites."""
    folder = tmp_path_factory.mktemp("naming")
    store = make_store(folder / "store")
    table = store.table()
    z = separable(table)
    z[table.index[table["domain"] == "bare"][0]] = 9  # like nothing that has a label
    told = {"method": "known", "config": "{}", "store_digest": store.digest}
    write_embeddings(folder / "known.h5", table["cell_id"], z, told)
    return store, folder / "known.h5"


def test_other_sites_are_named_and_it_is_said_how_sure_that_is(study):
    store, file = study
    naming = name_cells(store, ["site-a"], file, classifier="linear")
    table = store.table()
    assert naming.table["cell_id"].tolist() == table["cell_id"][table["domain"] != "site-a"].tolist()
    known = naming.table[naming.table["label"] != ""]
    assert (known["label"] == known["predicted"]).all()
    assert naming.classes == CLASSES
    np.testing.assert_allclose(naming.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(naming.table["probability"], naming.probabilities.max(axis=1))
    assert naming.held_out["accuracy"] == 1
    assert naming.table["unusual"][naming.table["domain"] == "bare"].iloc[0]
    assert not naming.patients
    text = "\n".join(naming.lines())
    assert "60 cells of bare, site-b, named from 45 labelled cells of site-a" in text
    assert "cells of one patient may be on both sides" in text
    assert "of 45 of these that have a label, 100.0 % are called so" in text


def test_the_command_writes_a_table_and_a_file_for_the_page(study, tmp_path, capsys):
    store, file = study
    labels = tmp_path / "labels.csv"
    row = store.table().iloc[0]
    labels.write_text(f"cell_id,label\n{row['cell_id']},monocyte\n")
    arguments = ["predict", str(store.path), "--train", "site-a", "--train", "site-b", "--embeddings", str(file)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--labels", str(labels), "--classifier", "knn", "--output", str(tmp_path / "named.csv")])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "15 cells of bare, named from 90 labelled cells of site-a, site-b" in out
    assert "how many are right is not known" in out
    table, found = pd.read_csv(tmp_path / "named.csv"), read_predictions(tmp_path / "named.h5")
    assert "monocyte" in table  # a class by the labels that were given
    assert found.cell_id.tolist() == table["cell_id"].tolist()
    assert found.labels.tolist() == table["predicted"].tolist()
    np.testing.assert_allclose(table[list(found.classes)], found.probabilities, atol=1e-4)


def test_what_cannot_be_learned_from_is_refused(study, tmp_path, capsys):
    store, file = study
    with pytest.raises(CellfeatError, match=r"'site-c' is no domain of .*; choose from bare, site-a, site-b"):
        name_cells(store, ["site-c"], file)
    with pytest.raises(MissingRequirement, match="bare: has labels of 0 classes"):
        name_cells(store, ["bare"], file)
    with pytest.raises(CellfeatError, match="has no other domain"):
        name_cells(store, ["site-a", "site-b", "bare"], file)
    other = make_store(tmp_path / "other", per_class=2)
    with pytest.raises(CellfeatError, match="another store"):
        name_cells(Store(other.path), ["site-a"], file)
    for arguments in ([], ["--train", "site-a", "--fitted", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(store.path), *arguments])
        assert ended.value.code == 2
        assert "give either --train or --fitted" in capsys.readouterr().err


def test_few_labelled_cells_make_nothing_unusual():
    assert not unusual(np.ones((3, 2)), np.ones((1, 2))).any()
