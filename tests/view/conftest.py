"""A small store whose names are hostile, and a client that has the link."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from known_stores import separable
from starlette.testclient import TestClient
from store_helpers import cell, image, write
from view_names import ACCESS, HOSTILE

from cellfeat.store import Store, write_embeddings, write_predictions
from cellfeat.store.cell_matrix import write_matrix
from cellfeat.view import maps
from cellfeat.view.annotations import AnnotationLog
from cellfeat.view.data import Cells
from cellfeat.view.server import application


@pytest.fixture(scope="session")
def view_store(tmp_path_factory) -> Store:
    """8 images of two cells each, from two laboratories; a domain, a label and the file names are hostile."""
    path = tmp_path_factory.mktemp("view") / "store"
    images = []
    for number in range(8):
        rows = [cell(10 * number + k, label=["blast", HOSTILE][k]) for k in range(2)]
        domain = ["north", HOSTILE][number % 2]
        images.append(
            image(number, rows, image_id=f"{number}/{HOSTILE}", domain=domain, metadata={"group": f"p{number}"})
        )
    return Store(write(path, images))


@pytest.fixture(scope="session")
def view_files(view_store) -> tuple[list[Path], list[Path]]:
    """Embeddings with a map that is kept, and predictions of all cells but the first."""
    table, folder = view_store.table(), view_store.path
    names = table["cell_id"].to_numpy(str)
    attributes = {"method": HOSTILE, "config": "{}", "store_digest": view_store.digest}
    path = folder / "embeddings" / "one.h5"
    write_embeddings(path, names, separable(table), attributes)
    points = np.random.default_rng(0).normal(size=(len(table) - 1, 2))
    told = {**attributes, "config": json.dumps(maps.config_of(path))}
    write_matrix(maps.kept_at(path), maps.KIND, names[1:], points, (), told)
    sure = np.tile([0.75, 0.25], (len(table) - 1, 1))
    write_predictions(folder / "predictions.h5", names[1:], ["blast", HOSTILE], sure, attributes)
    return [path], [folder / "predictions.h5"]


@pytest.fixture(scope="session")
def view_cells(view_store, view_files) -> Cells:
    return Cells(view_store, *view_files)


@pytest.fixture
def view_client(view_cells) -> TestClient:
    """A browser that opened the link."""
    client = TestClient(application(view_cells, ACCESS), base_url="http://127.0.0.1:8765")
    assert client.get("/", params={"token": ACCESS.token}).status_code == 200
    return client


@pytest.fixture
def view_log(view_cells, tmp_path) -> AnnotationLog:
    return AnnotationLog(tmp_path / "log.jsonl", view_cells.store.digest, view_cells.labels)
