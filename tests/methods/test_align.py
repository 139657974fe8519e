from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cellfeat.data.alignment import aligned
from cellfeat.errors import CellfeatError
from cellfeat.methods.align import align_embeddings
from cellfeat.store import read_embeddings, write_embeddings


def test_an_aligned_file_says_what_was_done(tmp_path):
    z, domain = np.random.default_rng(0).normal(size=(40, 5)), np.array(["a", "b"])[np.arange(40) % 2]
    table = pd.DataFrame({"cell_id": [f"{k}#0" for k in range(40)], "domain": domain})
    attributes = {"method": "rcnn", "config": json.dumps({}), "store_digest": "0" * 64}
    write_embeddings(tmp_path / "rcnn.h5", table["cell_id"].to_numpy(), z, attributes)
    path = align_embeddings(tmp_path / "rcnn.h5", tmp_path / "out.h5", table, np.arange(40), "coral", "a")
    found = read_embeddings(path)
    assert found.attributes == attributes | {"method": "rcnn+coral", "alignment": "coral"}
    np.testing.assert_allclose(found.z, aligned(z.astype(np.float32), domain, np.arange(40), "coral", "a"), atol=1e-6)
    backwards = align_embeddings(tmp_path / "rcnn.h5", tmp_path / "o.h5", table[::-1], np.arange(40), "coral", "a")
    np.testing.assert_allclose(read_embeddings(backwards).of(found.cell_id), found.z, atol=1e-6)
    other = table.assign(cell_id=[f"x{k}#0" for k in range(40)])
    with pytest.raises(CellfeatError, match="lacks 40 of 40 cells"):
        align_embeddings(tmp_path / "rcnn.h5", tmp_path / "o.h5", other, np.arange(40), "coral", "a")
