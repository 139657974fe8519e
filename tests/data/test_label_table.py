"""Labels in place of a store's."""

from __future__ import annotations

import pandas as pd
import pytest

from cellfeat.data.class_tree import THE_CLASSES
from cellfeat.data.label_table import relabelled
from cellfeat.errors import CellfeatError

CELLS = pd.DataFrame({"cell_id": ["a", "=b", "c"], "label": ["blast", "", "own class"], "score": [1.0, 0.5, 0.2]})


def read(tmp_path, text: str) -> pd.DataFrame:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return relabelled(CELLS, path, THE_CLASSES)


def test_named_cells_change_and_others_keep_their_label(tmp_path):
    found = read(tmp_path, "cell_id,label,by\nc,blast,ada\n'=b,own class,ada\n")
    assert found["label"].tolist() == ["blast", "own class", "blast"]
    assert read(tmp_path, "cell_id,label\na,\n")["label"].tolist() == ["", "", "own class"]
    assert CELLS["label"].tolist() == ["blast", "", "own class"]
    pd.testing.assert_frame_equal(found.drop(columns="label"), CELLS.drop(columns="label"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cell_id,label\na,monocite\n", "line 2: the label 'monocite' of 'a' is no class"),
        ("cell_id,label\na,blast\na,monocyte\n", "cell 'a' occurs twice"),
        ("cell_id,label\nd,blast\n", "lacks 1 of 1 cells, the first is 'd'"),
        ("cell_id,class\na,blast\n", "no column 'label'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, text, words):
    with pytest.raises(CellfeatError, match=words):
        read(tmp_path, text)
