"""A name that is harmless as text and runs as HTML, and the way into a server of the tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cellfeat.view.security import Access
from cellfeat.workflows.predict import Prediction

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
ACCESS = Access("127.0.0.1", 8765)


def halves(rgb):
    """A predictor for tests of what surrounds one: the left and the right half of a picture are cells."""
    height, width = rgb.shape[:2]
    table = pd.DataFrame({"x0": [0, width / 2], "y0": 0, "x1": [width / 2, width], "y1": height, "score": [0.9, 0.8]})
    table["predicted"], table["probability"] = ["blast", HOSTILE], [0.75, 0.5]
    crops = np.stack([rgb[:8, :8], rgb[:8, -8:]])
    probabilities, heat = np.float32([[0.75, 0.25], [0.5, 0.5]]), np.ones((2, 8, 8), np.float32)
    near, away = np.array([[3, 1], [2, 0]]), np.float32([[0.5, 1], [0, 2]])
    return Prediction(table, ("blast", HOSTILE), probabilities, crops, crops[..., 0] > 9, heat, near, away)
