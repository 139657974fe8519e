from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from known_stores import CLASSES, make_store, separable
from page import check_page

from cellfeat.errors import CellfeatError, Damaged
from cellfeat.evaluation import EvaluationConfig, evaluate
from cellfeat.reporting.report import write_report
from cellfeat.store import write_embeddings

SECTIONS = (
    *("glance", "run", "detection", "classes", "montage", "reconstructions"),
    *("training", "embedding", "table", "published", "confusions", "settings"),
)


def check(path) -> str:
    """The page holds every section and stands by itself."""
    text, page = check_page(path)
    assert [name for name in page.attributes("id") if name in SECTIONS] == list(SECTIONS)
    assert set(page.attributes("href")) == {f"#{name}" for name in SECTIONS}
    return text


@pytest.fixture(scope="module")
def evaluated(store, embedding_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(store, embedding_files, folder, EvaluationConfig(runs=2, trees=5))
    return folder


def test_whole_report(store, embedding_files, evaluated, tmp_path):
    detector, autoencoder = tmp_path / "detector", tmp_path / "autoencoder"
    detector.mkdir()
    autoencoder.mkdir()
    ap = {"smears@val": {"bbox": {"AP": 0.8123, "AP50": 0.97}, "segm": {"AP": None}}}
    (detector / "evaluation.json").write_text(json.dumps(ap))
    lines = [json.dumps({"iteration": k, "total_loss": 2 / (k + 1), "loss_mask": 1 / (k + 1)}) for k in range(5)]
    (detector / "metrics.json").write_text("\n".join([*lines, '{"iteration": 5, "tot']))  # killed while writing
    (autoencoder / "metrics.csv").write_text("epoch,loss,alignment_loss,sd_site-a\n0,2.0,,0.1\n1,1.0,0.3,0.2\n")
    (autoencoder / "config.json").write_text('{"beta": 5.0}')
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    path = write_report(
        tmp_path / "report.html",
        store,
        embedding_files,
        evaluated,
        autoencoder,
        detector,
        config_text="seed: 7",
        reconstructions=(pictures, {"aecfe": pictures, "image-ae": pictures}, ["site-a, blast", "<i>b</i>"]),
        same_site={"site-a": "Matek-19", "site-b": "Acevedo-20"},
    )
    text = check(path)
    assert "81.2" in text  # AP
    assert "97.8" in text  # detection rate of site-a: 45 of 46 readable images
    assert "3 of 13 classes" in text
    assert "45.1" in text  # the paper's Acevedo-20 to Matek-19
    assert "seed: 7" in text
    assert "&lt;i&gt;b&lt;/i&gt;" in text
    assert "No log of" not in text


def test_report_of_what_there_is(store, embedding_files, tmp_path):
    (tmp_path / "empty").mkdir()
    text = check(
        write_report(tmp_path / "r.html", store, embedding_files[:1], None, tmp_path / "empty", tmp_path / "empty")
    )
    assert text.count('class="absent"') >= 6
    assert "The embeddings were not evaluated." in text


def test_hostile_labels_and_a_store_without_labels(tmp_path):
    for name, classes in (("hostile", ("<script>x</script>", "b & 'c'")), ("bare", ("",))):
        store = make_store(tmp_path / name, {"<b>site": classes}, per_class=12)
        attributes = {"method": "<u>m", "config": "not JSON <p>", "store_digest": store.digest}
        table = store.table()
        write_embeddings(tmp_path / f"{name}.h5", table["cell_id"].to_numpy(str), separable(table), attributes)
        files, folder = [tmp_path / f"{name}.h5"], tmp_path / f"{name}-evaluation"
        evaluate(store, files, folder, EvaluationConfig(runs=1, trees=2))
        text = check(write_report(tmp_path / f"{name}.html", store, files, folder, config_text="<pre>"))
        assert "&lt;b&gt;site" in text
        assert "<b>site" not in text


def test_an_evaluation_of_other_embeddings_is_refused(store, embedding_files, evaluated, tmp_path):
    table = store.table()
    attributes = {"method": "aecfe", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"].to_numpy(str), separable(table, seed=1), attributes)
    with pytest.raises(CellfeatError, match="does not evaluate"):
        write_report(tmp_path / "r.html", store, [tmp_path / "z.h5"], evaluated)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["table.csv", "confusion.json"])
def test_a_half_replaced_evaluation_is_refused(store, embedding_files, evaluated, tmp_path, name):
    shutil.copytree(evaluated, tmp_path / "evaluation")
    (tmp_path / "evaluation" / name).write_text("of a later evaluation that was killed")
    with pytest.raises(Damaged, match=f"{name}: is of another evaluation"):
        write_report(tmp_path / "r.html", store, embedding_files, tmp_path / "evaluation")


def test_reconstructions_that_do_not_fit_are_refused(store, embedding_files, tmp_path):
    pictures = np.zeros((len(CLASSES), 8, 8, 3), np.uint8)
    with pytest.raises(CellfeatError, match="reconstructions"):
        write_report(
            tmp_path / "r.html",
            store,
            embedding_files,
            None,
            reconstructions=(pictures, {"aecfe": pictures[:1]}, ["a"] * len(CLASSES)),
        )
