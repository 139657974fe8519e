"""Forms of what a comparison wrote; those of an evaluation are tested where a report reads them."""

import json

import pytest

from cellfeat.core.settings import read_written
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.records import Scored

PAIR = {"method": "rcnn", "classifier": "forest", "protocol": "paper", "train": "a", "test": "b", "where": "across"}
ROW = PAIR | {"metric": "accuracy", "mean": 1, "sd": None, "low": 0.5, "high": 1.0, "runs": 1, "chance": 0.5}
ROW |= {"n_train": 6, "n_test": 6, "classes": "blast;monocyte", "unlearned": "", "reason": ""}
CONFUSION = PAIR | {"classes": ["blast", "monocyte"], "compared_as": {}, "runs": 1, "counts": [[3, 0], [1, 2]]}
LINE = {"method": "rcnn", "classifier": "forest", "protocol": "paper", "across_accuracy": 1.0, "within_accuracy": None}
MAP = {"kind": "UMAP", "rows": [0, 2], "xy": [[0.5, 1], [-1, 2.0]], "reason": "", "d": 4}
WHOLE = {"inputs": {}, "table": [ROW], "confusions": [CONFUSION], "lines": [LINE], "map": MAP}


def read(tmp_path, content):
    (tmp_path / "rcnn.json").write_text(json.dumps(content))
    return read_written(Scored, tmp_path / "rcnn.json", "compare again")


def test_what_is_as_it_was_written_is_given_as_it_is(tmp_path):
    for content in (WHOLE, WHOLE | {"map": None, "of a later version": 1}):
        assert read(tmp_path, content) == content


@pytest.mark.parametrize(
    ("part", "entry", "place"),
    [
        ("table", [ROW | {"mean": "1"}], "table.0.mean"),
        ("table", [ROW | {"runs": True}], "table.0.runs"),
        ("table", [ROW | {"n_test": -1}], "table.0.n_test"),
        ("table", [PAIR], "table.0.metric"),
        ("table", {}, "table"),
        ("confusions", [CONFUSION | {"counts": [[3, 0]]}], "confusions.0"),
        ("confusions", [CONFUSION | {"counts": [[3, 0], [1, 1e300]]}], "confusions.0.counts.1.1"),
        ("confusions", [CONFUSION | {"classes": "ab"}], "confusions.0.classes"),
        ("lines", [LINE | {"across_accuracy": [1]}], "lines.0.across_accuracy"),
        ("lines", [LINE | {"method": 7}], "lines.0.method"),
        ("map", MAP | {"rows": [0]}, "map"),
        ("map", MAP | {"xy": [[0.5], [1, 2]]}, "map.xy.0"),
        ("map", [], "map"),
    ],
)
def test_another_form_is_named(tmp_path, part, entry, place):
    with pytest.raises(CellfeatError, match=rf"rcnn\.json: is not as cellfeat wrote it \({place}: .*; compare again"):
        read(tmp_path, WHOLE | {part: entry})
