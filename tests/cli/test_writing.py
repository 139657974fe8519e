"""Two commands never write one folder at once."""

from __future__ import annotations

import numpy as np
import pytest
from crop_stores import make_store

from cellfeat.cli import main
from cellfeat.core.lock import FolderLock
from cellfeat.store import write_embeddings


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Folder with a store and an embeddings file of it."""
    folder = tmp_path_factory.mktemp("cells")
    store = make_store(folder / "store", cells=4)
    attributes = {"method": "rcnn", "config": "{}", "store_digest": store.digest}
    write_embeddings(folder / "z.h5", store.table()["cell_id"].to_numpy(str), np.zeros((4, 2)), attributes)
    (folder / "compare.yaml").write_text("store: store\noutput: out\nmethods: [rcnn]\nalign: []\n")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "train-ae store --output out",
        "embed store --method rcnn --output out.h5",
        "evaluate store z.h5 --output out",
        "explore store --output out",
        "explain store fit --output out",
        "compare compare.yaml",
        "train-net OUTPUT_DIR out",
    ],
)
def test_a_folder_that_another_command_writes_is_refused(cells, capsys, monkeypatch, command):
    monkeypatch.chdir(cells)
    with FolderLock(cells / "out"), pytest.raises(SystemExit) as stop:
        main(command.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("cellfeat: out: another process is writing here")
    assert error.count("\n") == 1
    assert [path.name for path in (cells / "out").iterdir()] == [".lock"]
