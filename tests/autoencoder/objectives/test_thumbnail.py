from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from cellfeat.autoencoder.data import read_crops
from cellfeat.autoencoder.objectives.thumbnail import measure_thumbnails


@pytest.mark.parametrize("masked", [False, True])
def test_thumbnails_are_small_crops_less_their_mean(make_store, masked):
    store = make_store()
    rows = np.arange(0, len(store), 2)
    thumbnails = measure_thumbnails(store, rows, masked, batch_size=5)
    crops = read_crops(store, rows, masked)
    expected = np.stack([cv2.resize(crop, (14, 14), interpolation=cv2.INTER_AREA) for crop in crops]) / 255
    expected -= expected.mean(0)
    np.testing.assert_allclose(thumbnails.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_one_cell_alone_has_nothing_to_learn(make_store):
    assert torch.count_nonzero(measure_thumbnails(make_store(cells=1), np.arange(1), masked=False)) == 0
