"""Images that two experts labelled, as Raabin-WBC's cropped cells."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cellfeat.data.catalogue import open_dataset
from cellfeat.errors import CellfeatError

ROWS = "file,expert1,expert2\na.png,Lymphocyte,lymphocyte\nb.png,Lymphocyte,Monocyte\nc.png,Monocyte,\nd.png,,\n"


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "raabin-crops"
    folder.mkdir()
    for name in "abcd":
        Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(folder / f"{name}.png")
    (folder / "labels.csv").write_text(ROWS)
    keys = "kind: csv, file: labels.csv, vocabulary: five-part, code_column: expert1, second_code_column: expert2"
    (folder / "dataset.yaml").write_text(f"labels: {{{keys}}}\n")
    return open_dataset("raabin-crops", tmp_path)


def test_cells_on_which_both_agree_are_kept_and_the_others_are_said(dataset):
    """The same class in other letters is the same; where only one names it, they do not agree."""
    labels = {record.image_id: record.label for record in dataset.records()}
    assert labels == {"raabin-crops/a.png": "lymphocyte", "raabin-crops/d.png": ""}
    assert dataset.dropped == {}  # the vocabulary drops none
    assert dataset.summary().left_out == {
        "images that one expert calls Lymphocyte, the other Monocyte": 1,
        "images that one expert calls Monocyte, the other nothing": 1,
    }


def test_a_second_column_needs_a_table_that_has_it(dataset):
    path = dataset.folder / "dataset.yaml"
    path.write_text(path.read_text().replace("expert2", "expert3"))
    with pytest.raises(CellfeatError, match="expert3"):
        open_dataset("raabin-crops", dataset.folder.parent).records()
    path.write_text("labels: {kind: folder, second_code_column: expert2}\n")
    with pytest.raises(CellfeatError, match="`second_code_column` belongs to kind csv"):
        open_dataset("raabin-crops", dataset.folder.parent)
