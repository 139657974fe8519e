from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from known_stores import make_store
from pickled import in_this_process

from cellfeat.data.split import stratified_split
from cellfeat.errors import CellfeatError
from cellfeat.evaluation import EvaluationConfig, evaluate
from cellfeat.store import write_embeddings

SMALL = EvaluationConfig(runs=2, trees=5)


def test_evaluation_is_written(store, embedding_files, tmp_path):
    split = stratified_split(store.table()).rename_axis("cell_id").reset_index()
    split.to_csv(tmp_path / "split.csv", index=False)
    path = evaluate(store, embedding_files, tmp_path / "out", SMALL, tmp_path / "split.csv")
    record = json.loads(path.read_text())
    assert record["inputs"]["store"] == store.digest
    assert set(record["inputs"]["embeddings"]) == {"aecfe", "rcnn"}
    assert record["labelled_cells"] == {"site-a": 45, "site-b": 45}
    assert record["unlabelled_domains"] == ["bare"]
    assert record["domains_split_here"] == []
    assert [line["method"] for line in record["separation"]] == ["aecfe", "aecfe+coral", "rcnn", "rcnn+coral"]
    assert record["separation"][0]["domain_chance"] == 1 / 2  # the third domain has three tested cells
    across = {line["method"]: line["accuracy"] for line in record["summary"] if line["domains"] == "across"}
    assert across == {"aecfe": 1.0, "rcnn": 0.0}

    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert len(table) == 2 * 3 * 4 * 5  # methods, protocols, pairs, metrics
    for entry in json.loads((tmp_path / "out" / "confusion.json").read_text()):
        counts = np.array(entry["counts"])
        assert counts.shape == (3, 3)
        assert len(entry["classes"]) == 3
        assert counts.sum() == entry["runs"] * (
            9 if entry["protocol"] != "code" or entry["train"] == entry["test"] else 45
        )


def test_processes_find_what_one_does(store, embedding_files, tmp_path, monkeypatch):
    monkeypatch.setattr("cellfeat.core.processes.in_processes", in_this_process)
    config = EvaluationConfig(runs=1, trees=3, protocols=["code", "shared"], bootstrap=10)
    one, two = (evaluate(store, embedding_files, tmp_path / str(jobs), config, jobs=jobs) for jobs in (1, 2))
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    with pytest.raises(CellfeatError, match="--jobs and --ray each share the work out"):
        evaluate(store, embedding_files, tmp_path, config, jobs=2, ray="local")


def test_a_ray_cluster_that_is_connected_to_once_finds_what_one_process_does(
    ray, store, embedding_files, tmp_path, monkeypatch
):
    begun, init = [], ray.init
    monkeypatch.setattr(ray, "init", lambda *given, **more: begun.append(given) or init(*given, **more))
    config = EvaluationConfig(runs=1, trees=3, protocols=["code"], bootstrap=10)
    one, two = (evaluate(store, embedding_files, tmp_path / str(way), config, ray=way) for way in (None, "local"))
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    assert begun == [("local",)]


def test_labels_of_a_table_count_in_place_of_the_stores(store, embedding_files, tmp_path):
    bare = store.table().query("domain == 'bare'")
    labels = [("blast", "eosinophil", "lymphocyte")[k % 3] for k in range(len(bare))]
    bare[["cell_id"]].assign(label=labels).to_csv(tmp_path / "labels.csv", index=False)
    config = EvaluationConfig(runs=1, trees=2, protocols=["shared"], bootstrap=0)
    path = evaluate(store, embedding_files[:1], tmp_path, config, labels_csv=tmp_path / "labels.csv")
    record = json.loads(path.read_text())
    assert record["labelled_cells"] == {"bare": 15, "site-a": 45, "site-b": 45}
    assert record["inputs"]["labels"]["file"] == "labels.csv"


def test_a_store_without_labels_gives_an_empty_table_and_says_why(tmp_path, caplog):
    store = make_store(tmp_path / "store", {"bare": ("",)})
    attributes = {"method": "aecfe", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", store.table()["cell_id"].to_numpy(str), np.zeros((len(store), 2)), attributes)
    with caplog.at_level("INFO", "cellfeat"):
        record = json.loads(evaluate(store, [tmp_path / "z.h5"], tmp_path, SMALL).read_text())
    assert "nothing was evaluated: no cell of the store has a label" in caplog.text
    # the only labelled images of this store hold no cell
    assert record["unlabelled_domains"] == ["bare"]
    assert record["labelled_cells"] == {}
    assert record["summary"] == []


def test_embeddings_of_another_store_are_refused(embedding_files, tmp_path):
    other = make_store(tmp_path / "store", per_class=6)
    with pytest.raises(CellfeatError, match=r"aecfe\.h5: made from another store"):
        evaluate(other, embedding_files, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_a_method_given_twice_is_refused(store, embedding_files, tmp_path):
    with pytest.raises(CellfeatError, match="a second file of method 'aecfe'"):
        evaluate(store, [embedding_files[0]] * 2, tmp_path / "out", SMALL)


def test_no_embeddings_are_refused(store, tmp_path):
    with pytest.raises(CellfeatError, match="none given"):
        evaluate(store, [], tmp_path / "out", SMALL)
