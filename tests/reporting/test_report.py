from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from known_stores import CLASSES, make_store, separable
from page import check_page

from cellfeat.core.files import read_json, sha256_file
from cellfeat.errors import CellfeatError, Damaged
from cellfeat.evaluation import EvaluationConfig, evaluate
from cellfeat.reporting.material import gather
from cellfeat.reporting.report import write_report
from cellfeat.store import write_embeddings

WHOLE = [
    *("glance", "run", "detection", "classes", "montage", "reconstructions"),
    *("training", "embedding", "table", "published", "confusions", "settings"),
]


def check(path, sections) -> str:
    """The page holds these sections, in order, and nothing from elsewhere."""
    text, page = check_page(path)
    assert page.attributes("id") == sections
    assert page.attributes("href") == [f"#{name}" for name in sections]
    assert 'class="absent"' not in re.sub(r"<table class=.montage.*?</table>", "", text, flags=re.DOTALL)
    return text


@pytest.fixture(scope="module")
def evaluated(store, embedding_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(store, embedding_files, folder, EvaluationConfig(runs=2, trees=5))
    return folder


def test_the_stores_own_classes_decide_the_level_of_a_comparison(tmp_path):
    bands = {"neutrophil": "", "neutrophil_band": "neutrophil", "neutrophil_segmented": "neutrophil"}
    sites = {"site-a": ("blast", "neutrophil_band", "neutrophil_segmented"), "site-b": ("blast", "neutrophil")}
    store = make_store(tmp_path / "store", sites, per_class=6, classes=bands)
    table = store.table()
    z = np.array([[label == "blast", label == "neutrophil_band"] for label in table["label"]], np.float32)
    said = {"method": "labels", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"], z, said)
    config = EvaluationConfig(runs=1, trees=5, bootstrap=0, min_cells=2, protocols=["paper"])
    evaluate(store, [tmp_path / "z.h5"], tmp_path / "evaluation", config)
    entries = json.loads((tmp_path / "evaluation" / "confusion.json").read_text())
    found = {(entry["train"], entry["test"]): entry["classes"] for entry in entries}
    assert found["site-a", "site-b"] == found["site-b", "site-a"] == ["blast", "neutrophil"]
    assert found["site-a", "site-a"] == ["blast", "neutrophil_band", "neutrophil_segmented"]
    write_report(tmp_path / "report.html", gather(store, evaluation=tmp_path / "evaluation"))  # no map is drawn
    levels = "at the finest that both have: Band neutrophil, Segmented neutrophil as neutrophil<"
    assert levels.lower() in (tmp_path / "report.html").read_text(encoding="utf-8").lower()


def test_whole_report(store, embedding_files, evaluated, tmp_path):
    detector, autoencoder = tmp_path / "detector", tmp_path / "autoencoder"
    detector.mkdir()
    autoencoder.mkdir()
    ap = {"smears@val": {"bbox": {"AP": 0.8123, "AP50": 0.97, "AP-monocyte": 0.7654}, "segm": {"AP": None}}}
    (detector / "evaluation.json").write_text(json.dumps(ap))
    lines = [json.dumps({"iteration": k, "total_loss": 2 / (k + 1), "loss_mask": 1 / (k + 1)}) for k in range(5)]
    (detector / "metrics.json").write_text("\n".join([*lines, '{"iteration": 5, "tot']))  # killed while writing
    (autoencoder / "metrics.csv").write_text("epoch,loss,alignment_loss,sd_site-a\n0,2.0,,0.1\n1,1.0,0.3,0.2\n")
    (autoencoder / "record.json").write_text('{"inputs": {"beta": 5.0}, "done": true}')
    rows, pictures = np.array([0, 50]), np.zeros((2, 16, 16, 3), np.uint8)
    path = write_report(
        tmp_path / "report.html",
        gather(
            store,
            embedding_files,
            evaluation=evaluated,
            autoencoder=autoencoder,
            detector=detector,
            config_text="seed: 7",
            reconstructions=(rows, {"aecfe": pictures, "image-ae": pictures}),
            same_site={"site-a": "Matek-19", "site-b": "Acevedo-20"},
        ),
    )
    text = check(path, WHOLE)
    assert "81.2" in text  # AP
    assert "boxes, monocyte" in text
    assert "76.5" in text  # AP of the monocytes
    assert "97.8" in text  # detection rate of site-a: 45 of 46 readable images
    assert "3 of 13 classes" in text
    assert "45.1" in text  # the paper's Acevedo-20 to Matek-19
    assert "seed: 7" in text
    assert "site-a: unknown; site-b: unknown." in text
    assert "Where patients are unknown, cells of one may be on both sides" in text
    assert "protocol <code>shared</code> gives the numbers of <code>paper</code>" in text
    assert "All pairs of sites have the same 3 classes: blast, eosinophil, lymphocyte." in text
    assert text.count("blast, eosinophil, lymphocyte") == 1
    assert "never learned" not in text


def test_a_report_shows_what_there_is_and_no_more(store, embedding_files, tmp_path):
    (tmp_path / "empty").mkdir()
    page = write_report(
        tmp_path / "r.html",
        gather(store, embedding_files[:1], autoencoder=tmp_path / "empty", detector=tmp_path / "empty"),
    )
    text = check(page, ["glance", "run", "detection", "classes", "montage", "embedding", "settings"])
    assert "The embeddings were not evaluated." in text


def test_the_report_of_one_unlabelled_site_claims_nothing(tmp_path):
    store = make_store(tmp_path / "store", {"<b>mine": ("",)}, per_class=12)
    text = check(
        write_report(tmp_path / "r.html", gather(store)), ["glance", "run", "detection", "montage", "settings"]
    )
    for claim in ("accuracy", "forest", "autoencoder", "Average precision", "at another site", "not evaluated"):
        assert claim not in re.sub('base64,[^"]*', "", text), claim
    assert "No cell has a label, so nothing was named or scored." in text


def test_protocols_are_both_shown_where_classes_differ(tmp_path):
    sites = {"site-a": ("blast", "monocyte", "basophil"), "site-b": ("blast", "monocyte", "eosinophil")}
    store = make_store(tmp_path / "store", sites, per_class=12)
    table = store.table()
    attributes = {"method": "rcnn", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"], separable(table), attributes)
    evaluate(
        store, [tmp_path / "z.h5"], tmp_path / "e", EvaluationConfig(runs=1, trees=2, protocols=["paper", "shared"])
    )
    text, _ = check_page(
        write_report(tmp_path / "r.html", gather(store, [tmp_path / "z.h5"], evaluation=tmp_path / "e"))
    )
    assert "Protocol <code>paper</code>, 1 run" in text
    assert "Protocol <code>shared</code>, 1 run" in text
    assert "The published numbers are of this protocol." in text
    assert "<td>4: blast, eosinophil, basophil, monocyte</td><td>eosinophil</td>" in text
    assert "All pairs of sites have the same" not in text


def test_hostile_labels_and_a_store_without_labels(tmp_path):
    bare = ["glance", "run", "detection", "montage", "embedding", "settings"]
    for name, classes in (("hostile", ("<script>x</script>", "b & 'c'")), ("bare", ("",))):
        store = make_store(tmp_path / name, {"<b>site": classes}, per_class=12)
        attributes = {"method": "<u>m", "config": "not JSON <p>", "store_digest": store.digest}
        table = store.table()
        write_embeddings(tmp_path / f"{name}.h5", table["cell_id"].to_numpy(str), separable(table), attributes)
        files, folder = [tmp_path / f"{name}.h5"], tmp_path / f"{name}-evaluation"
        evaluate(store, files, folder, EvaluationConfig(runs=1, trees=2))
        page = write_report(tmp_path / f"{name}.html", gather(store, files, evaluation=folder, config_text="<pre>"))
        text = check(page, bare if name == "bare" else [*bare[:3], "classes", *bare[3:5], "table", bare[5]])
        assert "&lt;b&gt;site" in text
        assert "<b>site" not in text


def test_an_evaluation_of_other_embeddings_is_refused(store, embedding_files, evaluated, tmp_path):
    table = store.table()
    attributes = {"method": "aecfe", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"].to_numpy(str), separable(table, seed=1), attributes)
    with pytest.raises(CellfeatError, match="does not evaluate"):
        write_report(tmp_path / "r.html", gather(store, [tmp_path / "z.h5"], evaluation=evaluated))
    assert not (tmp_path / "r.html").exists()


def test_a_record_of_an_evaluation_that_lacks_something_is_one_line(store, embedding_files, evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "evaluation")
    for content in ("{}", "[]", json.dumps(read_json(evaluated / "evaluation.json") | {"files": {}, "inputs": None})):
        (tmp_path / "evaluation" / "evaluation.json").write_text(content)
        with pytest.raises(CellfeatError, match=r"evaluation\.json: is not as cellfeat wrote it .*; evaluate again"):
            gather(store, embedding_files, evaluation=tmp_path / "evaluation")


def test_a_precision_that_is_no_number_is_one_line(store, tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps({"smears@val": {"bbox": {"AP": "high"}}}))
    with pytest.raises(CellfeatError, match=r"evaluation\.json: is not as .*high.*; evaluate the detector again"):
        write_report(tmp_path / "report.html", gather(store, detector=tmp_path))


@pytest.mark.parametrize("name", ["table.csv", "confusion.json"])
def test_a_forged_evaluation_is_one_line(store, embedding_files, evaluated, tmp_path, name):
    shutil.copytree(evaluated, tmp_path / "evaluation")
    path, record = tmp_path / "evaluation" / name, tmp_path / "evaluation" / "evaluation.json"
    if name == "table.csv":
        pd.read_csv(path).assign(n_test="many").to_csv(path, index=False)
    else:
        path.write_text(json.dumps([entry | {"counts": [[1, 2]]} for entry in read_json(path)]))
    forged = read_json(record)
    forged["files"][name] = sha256_file(path)
    record.write_text(json.dumps(forged))
    with pytest.raises(CellfeatError, match=rf"{name}: is not as cellfeat wrote it .*; evaluate again"):
        gather(store, embedding_files, evaluation=tmp_path / "evaluation")


@pytest.mark.parametrize("name", ["table.csv", "confusion.json"])
def test_a_half_replaced_evaluation_is_refused(store, embedding_files, evaluated, tmp_path, name):
    shutil.copytree(evaluated, tmp_path / "evaluation")
    (tmp_path / "evaluation" / name).write_text("of a later evaluation that was killed")
    with pytest.raises(Damaged, match=f"{name}: is of another run"):
        write_report(tmp_path / "r.html", gather(store, embedding_files, evaluation=tmp_path / "evaluation"))


def test_reconstructions_that_do_not_fit_are_refused(store, embedding_files, tmp_path):
    pictures = np.zeros((len(CLASSES), 8, 8, 3), np.uint8)
    with pytest.raises(CellfeatError, match="reconstructions"):
        write_report(
            tmp_path / "r.html",
            gather(store, embedding_files, reconstructions=(np.arange(len(CLASSES)), {"aecfe": pictures[:1]})),
        )
