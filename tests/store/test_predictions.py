import numpy as np
import pytest

from cellfeat.errors import CellfeatError
from cellfeat.store import read_embeddings, read_predictions, write_predictions

IDS, CLASSES = ["a.jpg#0", "a.jpg#1"], ["blast", "monocyte", "smudge_cell"]
P = np.array([[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]])
ATTRIBUTES = {"method": "mdd", "config": "{}", "store_digest": "0" * 64}


def test_round_trip(tmp_path):
    write_predictions(tmp_path / "p.h5", IDS, CLASSES, P, ATTRIBUTES)
    found = read_predictions(tmp_path / "p.h5")
    assert found.cell_id.tolist() == IDS
    assert found.classes.tolist() == CLASSES
    np.testing.assert_array_equal(found.probabilities, P)
    assert found.labels.tolist() == ["blast", "smudge_cell"]
    assert found.attributes == ATTRIBUTES


@pytest.mark.parametrize(
    ("classes", "probabilities", "message"),
    [
        (CLASSES[:2], P, "2 classes for probabilities"),
        ([*CLASSES[:2], "blast"], P, "classes 'blast' occurs more than once"),
        (CLASSES, P * 2, "do not add up to 1"),
        (CLASSES, P - [[1, 0, -1], [0, 0, 0]], "negative"),
        (CLASSES, P * np.nan, "not finite"),
    ],
)
def test_bad_predictions_are_refused(tmp_path, classes, probabilities, message):
    with pytest.raises(CellfeatError, match=message):
        write_predictions(tmp_path / "p.h5", IDS, classes, probabilities, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_are_no_predictions_and_the_other_way_round(tmp_path):
    write_predictions(tmp_path / "p.h5", IDS, CLASSES, P, ATTRIBUTES)
    with pytest.raises(CellfeatError, match="cellfeat-predictions"):
        read_embeddings(tmp_path / "p.h5")
