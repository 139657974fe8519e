"""Labels out of logs."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd
import pytest

from cellfeat.cli import main
from cellfeat.errors import CellfeatError
from cellfeat.view.agreement import agreements, apply
from cellfeat.view.annotations import AnnotationLog


def logs_of(cells, tmp_path, said):
    paths = []
    for user, labels in said.items():
        log = AnnotationLog(tmp_path / f"{user}.jsonl", cells.store.digest, cells.labels)
        for row, label in labels.items():
            log.save(user, "label", [cells.table["cell_id"][row]], label, [cells.table["label"][row]])
        paths.append(log.path)
    return paths


def test_kappa_is_cohens():
    one = dict(enumerate(["a"] * 25 + ["b"] * 25))
    other = dict(enumerate(["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15))
    [pair] = agreements({"ada": one, "bob": other})
    assert (pair.cells, pair.agreed) == (50, 35)
    assert pair.kappa == pytest.approx(0.4)  # 35/50 agree, 1/2 by chance
    [alike] = agreements({"ada": {1: "a"}, "bob": {1: "a"}})
    assert alike.kappa is None
    assert "kappa" not in str(alike)


def test_labels_are_written_and_differences_are_named(view_cells, tmp_path, capsys):
    said = {"ada": {0: "monocyte", 1: "blast", 2: "monocyte"}, "bob": {1: "blast", 2: "lymphocyte"}}
    paths = logs_of(view_cells, tmp_path, said)
    changed, differ, [pair] = apply(view_cells.store, paths, tmp_path / "labels.csv")
    assert (changed, differ, pair.cells, pair.agreed) == (2, 1, 2, 1)
    table = pd.read_csv(tmp_path / "labels.csv", keep_default_na=False)
    stored = view_cells.table["label"]
    assert table["cell_id"].tolist() == view_cells.table["cell_id"].tolist()
    assert table["label"].tolist() == ["monocyte", "blast", stored[2], *stored[3:]]
    assert table["by"].tolist()[:3] == ["ada", "ada, bob", ""]
    named = pd.read_csv(tmp_path / "disagreements.csv", keep_default_na=False)
    assert named.to_dict("records") == [
        {"cell_id": view_cells.table["cell_id"][2], "ada": "monocyte", "bob": "lymphocyte"}
    ]
    arguments = ["annotate", str(view_cells.store.path), "--output", str(tmp_path / "again.csv")]
    arguments += [word for path in paths for word in ("--apply", str(path))]
    printed = []
    for further in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *further])
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert "2 cells labelled by both, 1 alike" in printed[0]
    assert json.loads(printed[1]) == {"changed": 2, "differ": 1, "pairs": [asdict(pair)]}
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "labels.csv").read_bytes()


def test_a_log_of_other_cells_is_refused(view_cells, tmp_path):
    log = AnnotationLog(tmp_path / "log.jsonl", view_cells.store.digest, view_cells.labels)
    log.save("ada", "label", ["no such cell"], "blast", [""])
    with pytest.raises(CellfeatError, match="no such cell"):
        apply(view_cells.store, [log.path], tmp_path / "labels.csv")
    with pytest.raises(CellfeatError, match="no such file"):
        apply(view_cells.store, [tmp_path / "absent.jsonl"], tmp_path / "labels.csv")
