from __future__ import annotations

import numpy as np
import pytest
from crop_stores import make_store
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellfeat.methods import build

NONE = np.empty(0, np.int64)


@pytest.mark.parametrize("classes", [("basophil", "blast"), ("basophil", "blast", "eosinophil")])
def test_it_predicts_as_scikit_learn_does(tmp_path, classes):
    store, rows = make_store(tmp_path / "store", cells=30, classes=classes), np.arange(24)
    method = build("pixels", {"side": 8})
    method.fit(store, rows, tmp_path / "fit", NONE)
    found, probabilities = method.predict(store, np.arange(30), tmp_path / "fit")
    assert found == classes
    pixels, label = method._pixels(store, np.arange(30)), store.table()["label"].to_numpy(str)
    machine = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300, class_weight="balanced"))
    machine.fit(pixels[:24], label[:24])
    np.testing.assert_allclose(probabilities, machine.predict_proba(pixels), atol=1e-4)
    assert (np.array(classes)[probabilities[24:].argmax(1)] == label[24:]).mean() > 0.8
