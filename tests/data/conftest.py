"""Datasets of a few small pictures in a data root of their own."""

import pytest
from described import describe
from PIL import Image

CODES = ["BAS", "MOB", "PMB", ""]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def site(root):
    """A self-describing dataset: 4 images of 40 x 30 px, codes of Matek-19 in a table."""
    folder = root / "site"
    (folder / "images" / "sub").mkdir(parents=True)
    names = ["a.png", "b.png", "sub/c.png", "sub/d.png"]
    for name in names:
        Image.new("RGB", (40, 30)).save(folder / "images" / name)
    (folder / "images" / "._a.png").write_text("not an image of the set")
    (folder / "labels.csv").write_text("file,class\n" + "".join(f"{n},{c}\n" for n, c in zip(names, CODES)))
    describe(folder)
    return folder
