from __future__ import annotations

import numpy as np
import pytest

from cellfeat.methods.crops import CropSampler


@pytest.mark.parametrize(("cells", "batch_size"), [(3, 2), (5, 4), (40, 39), (7, 3), (2, 2), (64, 32)])
def test_no_batch_holds_one_cell_alone(cells, batch_size):
    """Batch normalisation of 1 × 1 px maps needs two."""
    sampler = CropSampler(np.arange(cells), batch_size, seed=0)
    batches = [rows for rows, _ in sampler]
    assert len(batches) == len(sampler)
    assert min(map(len, batches)) >= 2
    assert sorted(np.concatenate(batches)) == list(range(cells))
