"""The `sh` blocks of the documentation end with exit status 0, or say beside them why no test runs them.

`<!-- run -->` before a block: `pytest` runs it. `<!-- run slowly -->`: `pytest -m slow` does, with the page's other
blocks. `<!-- not run: why -->`: nothing does.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from crop_stores import make_store
from PIL import Image

from cellfeat.autoencoder import network
from cellfeat.cli import main
from cellfeat.data.synthetic import SITES, draw_cell_image, write_sites
from cellfeat.store import write_embeddings
from cellfeat.view.annotations import AnnotationLog
from cellfeat.workflows import demo

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARK = r"<!-- (run|run slowly|not run: [^\n]+) -->"
BLOCK = re.compile(rf"^( *)(?:{MARK}\n\1)?```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELL = {"sh", "bash", "console", "shell"}
PAGES = {
    path: [
        (mark, text) for _, mark, language, text in BLOCK.findall(path.read_text(encoding="utf-8")) if language in SHELL
    ]
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}
# What makes a page's command short, behind its own words.
SMALL = (
    "SOLVER.MAX_ITER",
    "1",
    "SOLVER.IMS_PER_BATCH",
    "2",
    "INPUT.MIN_SIZE_TRAIN",
    "(64,)",
    "INPUT.MIN_SIZE_TEST",
    "64",
)
SHORTER = {"train-net": SMALL, "train-ae": ("--epochs", "1")}
FEW = {"runs": 1, "trees": 5, "bootstrap": 20}
SCHEDULER = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}


def marked(mark: str) -> list[Path]:
    """Pages with a block of this mark."""
    return [path for path, blocks in PAGES.items() if mark in {found for found, _ in blocks}]


def page_yaml(name: str) -> dict:
    """The first YAML block of a page."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return yaml.safe_load(next(body for _, _, language, body in BLOCK.findall(text) if language == "yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a reader of any page has: folders of images, a store with embeddings, and stores of two sites."""
    folder = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(0)
    for name, site in zip(("north", "south"), SITES):
        for label in ("basophil", "monocyte"):
            for data in ("smears", "described"):
                (folder / data / name / label).mkdir(parents=True)
                Image.fromarray(draw_cell_image(site, label, rng)[0]).save(folder / data / name / label / "1.png")
        (folder / "described" / name / "dataset.yaml").write_text("labels: {kind: folder}\n")
    margin = {"dump": {"crop_margin": 0.1}}
    shape = (256, 14, 14)  # what AE-CFE reads, beside crops of 128 px
    both = ("north", "south")
    store = make_store(folder / "store", 24, 128, both, feature_shape=shape, provenance=margin, patients=8)
    make_store(folder / "found", cells=2, domains=("north",), provenance=margin)
    for seed, site in enumerate(both):
        make_store(folder / "stores" / site, cells=2, domains=(site,), seed=seed, provenance=margin)
    for method in ("quantiles", "dinobloom"):
        said = {"method": method, "config": "{}", "store_digest": store.digest}
        write_embeddings(
            folder / f"store/embeddings/{method}.h5", store.table()["cell_id"], rng.normal(size=(24, 3)), said
        )
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of it, in which the test is."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CELLFEAT_DATASETS", str(folder / "described"))
    return folder


@pytest.fixture
def whole_project(project, monkeypatch):
    """With masks to train on, a pipeline, a comparison and logs of two people; what takes minutes is smaller."""
    write_sites(project / "described", 13, sites=[replace(SITES[0], name="my-masks")])
    for name, site in (("my-site-1", "north"), ("my-site-2", "south")):
        shutil.copytree(project / "described" / site, project / "described" / name)
    pipeline = page_yaml("guides/pipeline.md")
    pipeline["detector"]["overrides"] = list(SMALL)
    pipeline["dump"]["score_threshold"] = 0.0  # a network of one step is sure of nothing
    pipeline["autoencoder"]["epochs"] = 1
    (project / "mine.yaml").write_text(yaml.safe_dump({**pipeline, "evaluation": FEW}))
    (project / "compare.yaml").write_text(yaml.safe_dump({**page_yaml("guides/comparison.md"), "evaluation": FEW}))
    from cellfeat.store import Store

    store = Store(project / "store")
    for user in ("ada", "bob"):
        log = AnnotationLog(project / f"store/annotations/{user}.jsonl", store.digest, ("blast",))
        log.save(user, "label", store.table()["cell_id"][:2].tolist(), "blast", store.table()["label"][:2].tolist())
    monkeypatch.setattr(network, "IMAGE_CHANNELS", (8, 8, 8, 8))
    monkeypatch.setattr(demo, "IMAGES_PER_SITE", 13)
    monkeypatch.setattr(
        demo, "PIPELINE", demo.PIPELINE.replace("  preset: transfer", "  epochs: 1\n  preset: transfer")
    )
    for name, value in SCHEDULER.items():
        monkeypatch.setenv(name, value)


def run(lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the lines of a block."""
    for line in lines.replace("\\\n", " ").replace(" && ", "\n").splitlines():
        words = shlex.split(os.path.expandvars(line.replace("/data/smears", "described")), comments=True)
        if words[:1] == ["export"]:
            for word in words[1:]:
                monkeypatch.setenv(*word.split("=", 1))
        elif words and words[0] != "pip":  # CI installs the package
            assert words[0] == "cellfeat"
            if words[1] == "dump":  # into a new folder, as a reader's first time
                shutil.rmtree(words[words.index("--output") + 1])
            with pytest.raises(SystemExit) as end:
                main([*words[1:], *SHORTER.get(words[1], ())])
            assert end.value.code == 0, line


def test_every_block_is_run_or_says_why_not():
    marks = [mark for blocks in PAGES.values() for mark, _ in blocks]
    assert "" not in marks
    assert len(marks) > 30


@pytest.mark.parametrize("path", marked("run"), ids=lambda path: path.stem)
def test_commands_of_a_page_run(path, project, monkeypatch):
    for mark, lines in PAGES[path]:
        if mark == "run":
            run(lines, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("path", marked("run slowly"), ids=lambda path: path.stem)
def test_all_commands_of_a_page_run(path, whole_project, monkeypatch):
    for mark, lines in PAGES[path]:
        if not mark.startswith("not"):
            run(lines, monkeypatch)
