"""One small store, and two methods' embeddings of it: one right everywhere, one wrong across sites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from known_stores import make_store, separable

from cellfeat.store import Store, write_embeddings


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def embedding_files(store, tmp_path_factory) -> list[Path]:
    folder, table = tmp_path_factory.mktemp("embeddings"), store.table()
    paths = [folder / "aecfe.h5", folder / "rcnn.h5"]
    for path, z in zip(paths, (separable(table), separable(table, {"site-b": 1}))):
        attributes = {"method": path.stem, "config": json.dumps({"beta": 5}), "store_digest": store.digest}
        write_embeddings(path, table["cell_id"].to_numpy(str), z, attributes)
    return paths
