import numpy as np
import pytest
from PIL import Image
from store_helpers import PROVENANCE, SIDE, cell, image, write

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.store.inspect import GAP, OUTLINE, TILE, describe, montage


def test_describe(path):
    text = describe(Store(path))
    lines = [line.split() for line in text.splitlines()]
    assert "18 cells of 14 images in 4 shards" in text
    form = "features (n, 4, 3, 3) float16 (1, 4, 3, 3) gzip 1, shuffle, fletcher32"
    assert any(" ".join(line).startswith(form) for line in lines)
    assert ["total", "6", "12"] in lines
    assert ["north", "6", "3", "6", "1", "50.0%"] in lines
    assert ["truncated", "file", "2"] in lines
    assert ["config.MODEL.MASK_ON", "true"] in lines
    assert ["weights", PROVENANCE["weights"]] in lines
    assert max(len(line) for line in text.splitlines()) <= 120


def test_describe_store_without_cells(tmp_path):
    assert "0 cells of 0 images in 0 shards" in describe(Store(write(tmp_path / "store", [], {})))
    unreadable = [image(0, cells=0, width=0, height=0, reason="[bold] broken")]
    text = describe(Store(write(tmp_path / "unreadable", unreadable)))
    assert "[bold] broken" in text
    assert ["north", "0", "0", "0", "1", "-"] in [line.split() for line in text.splitlines()]


@pytest.fixture
def grey(tmp_path):
    """One monocyte in north, two blasts and one unlabelled cell in south; grey crops, a square mask."""
    crop, mask = np.full((SIDE, SIDE, 3), 128, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    mask[4:12, 4:12] = 1
    labels = {0: ["monocyte"], 1: ["blast", "blast", ""]}
    images = [
        image(number, cells=[cell(k, crop=crop, mask=mask, label=label) for k, label in enumerate(names)])
        for number, names in labels.items()
    ]
    return Store(write(tmp_path / "grey", images))


def tiles(png):
    """Number of grey crops and of outline pixels in a picture."""
    pixels = np.asarray(Image.open(png).convert("RGB")).astype(int)
    outline = (pixels == OUTLINE).all(axis=2).sum()
    return round(((pixels == 128).all(axis=2).sum() + outline) / TILE**2, 1), outline  # some grey is of the letters


def test_montage_draws_every_cell_and_its_outline(grey, tmp_path):
    crops, outline = tiles(montage(grey, tmp_path / "m.png"))
    assert crops == 4
    side = TILE / 2  # the mask's square
    assert 4 * 4 * side <= outline <= 4 * 4 * (side + 2)
    assert tiles(montage(grey, tmp_path / "m.png", outline=False)) == (4, 0)
    assert tiles(montage(grey, tmp_path / "m.png", per_class=1))[0] == 3


def test_montage_columns(grey, tmp_path):
    def size(**options):
        return Image.open(montage(grey, tmp_path / "m.png", **options)).size

    assert size(columns=1)[1] - size()[1] == TILE + GAP  # the second blast on a line of its own
    assert size(columns=1)[0] < size()[0]


def test_montage_refusals(grey, tmp_path):
    with pytest.raises(CellfeatError, match="positive"):
        montage(grey, tmp_path / "m.png", per_class=0)
    with pytest.raises(CellfeatError, match="holds no cell"):
        montage(Store(write(tmp_path / "empty", [])), tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()
