"""The `sh` blocks of the documentation after `<!-- run -->` end with exit status 0."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from crop_stores import make_store
from PIL import Image

from cellfeat.cli import main
from cellfeat.store import write_embeddings

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^<!-- run -->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {path: BLOCK.findall(path.read_text(encoding="utf-8")) for path in sorted(DOCS.rglob("*.md"))}
PAGES = {path: blocks for path, blocks in PAGES.items() if blocks}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What a reader of any page has: folders of images, a store with embeddings, and stores of two sites."""
    folder = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(0)
    for site in ("smears/north", "smears/south", "described/north"):
        for label in ("basophil", "monocyte"):
            (folder / site / label).mkdir(parents=True)
            picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(picture).save(folder / site / label / "1.png")
    (folder / "described/north/dataset.yaml").write_text("labels: {kind: folder}\n")
    margin = {"dump": {"crop_margin": 0.1}}
    store = make_store(folder / "store", domains=("north", "south"), provenance=margin)
    make_store(folder / "found", cells=2, domains=("north",), provenance=margin)
    for seed, site in enumerate(("north", "south")):
        make_store(folder / "stores" / site, cells=2, domains=(site,), seed=seed, provenance=margin)
    said = {"method": "quantiles", "config": "{}", "store_digest": store.digest}
    write_embeddings(folder / "store/embeddings/quantiles.h5", store.table()["cell_id"], rng.normal(size=(24, 3)), said)
    return folder


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_of_a_page_run(path, project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("CELLFEAT_DATASETS", str(project / "described"))
    for line in "".join(PAGES[path]).replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words[:1] == ["export"]:
            monkeypatch.setenv(*words[1].split("=", 1))
        elif words:
            assert words[0] == "cellfeat"
            with pytest.raises(SystemExit) as end:
                main(words[1:])
            assert end.value.code == 0, line
