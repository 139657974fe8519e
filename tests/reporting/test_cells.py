import numpy as np
import pandas as pd
import pytest
from PIL import Image
from store_helpers import SIDE, cell, image, write

from cellfeat.data.dataset import ImageRecord
from cellfeat.reporting.cell_pictures import outlines
from cellfeat.reporting.cell_table import cell_table
from cellfeat.reporting.cells import write_cells
from cellfeat.store import Store

PROVENANCE = {"dump": {"crop_margin": 0.0}}


def disc(seed, **changes):
    """A cell whose mask is a disc of 5 px in a crop of 16 px, with a darker nucleus of a quarter of its area."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    crop = np.full((SIDE, SIDE, 3), 230, np.uint8)
    crop[x**2 + y**2 <= 25] = (200, 150, 210)
    crop[x**2 + y**2 <= 6.25] = (90, 40, 140)
    mask = (x**2 + y**2 <= 25).astype(np.uint8)
    return cell(seed, crop=crop, mask=mask, **{"box": np.float32([10, 10, 42, 42]), **changes})


@pytest.fixture
def store(tmp_path):
    """Two images, of which one is a field of two tiles, an unreadable one and one without a cell."""
    images = [
        image(0, [disc(1)]),
        image(1, [disc(2)], image_id="south/f.png@0,0", tile_of="south/f.png", width=60, height=60),
        image(1, [disc(3)], image_id="south/f.png@30,0", tile_of="south/f.png", tile_x=30, width=60, height=60),
        image(3, [], width=0, height=0, reason="truncated"),
        image(4, []),
    ]
    return Store(write(tmp_path / "store", images, PROVENANCE))


def test_measurements_of_a_known_cell(store):
    table = cell_table(store, 0.0, {"south/f.png": 0.5})
    assert table["image_id"].tolist() == ["north/000.jpg", "south/f.png", "south/f.png"]
    assert table["x"].tolist() == [26, 26, 56]
    area = store.read("masks", [0])[0].sum() * 4  # 2 px of the image a px of the crop
    assert table["area_px2"].tolist() == [area] * 3
    assert table["diameter_px"].iloc[0] == pytest.approx(2 * np.sqrt(area / np.pi))
    assert table["area_um2"].tolist()[1:] == [area / 4] * 2
    assert np.isnan(table["diameter_um"].iloc[0])
    assert table["eccentricity"].iloc[0] == pytest.approx(0, abs=0.05)
    assert 0.2 < table["nucleus_cytoplasm_ratio"].iloc[0] < 0.45
    assert table["green"].iloc[0] < table["red"].iloc[0] < 200
    assert "diameter_um" not in cell_table(store, 0.0)


def test_a_cell_without_a_mask_is_in_the_table(tmp_path):
    empty = disc(1)
    empty.mask[:] = 0
    table = cell_table(Store(write(tmp_path / "store", [image(0, [empty])], PROVENANCE)), 0.0)
    assert table["area_px2"].isna().all()
    assert table["score"].notna().all()


def test_outlines_lie_where_the_cell_is(store):
    [line] = outlines(store.read("masks", [0])[0], np.array([10, 10, 42, 42.0]), 0.0)
    assert line.mean(axis=0) == pytest.approx([26, 26], abs=0.5)
    assert line.min() >= 15
    [box] = outlines(np.zeros((16, 16)), np.array([1, 2, 3, 4.0]), 0.0)
    assert box.min(axis=0).tolist() == [1, 2]


def test_table_pictures_and_page(store, tmp_path):
    records = {}
    for name, size in {"north/000.jpg": (90, 60), "south/f.png": (90, 60)}.items():
        path = tmp_path / name.replace("/", "-")
        Image.new("RGB", size, "white").save(path)
        records[name] = ImageRecord(name, path, name.split("/")[0], "", None)
    page = write_cells(store, records, tmp_path / "cells")
    table = pd.read_csv(tmp_path / "cells" / "cells.csv")
    assert table["cell_id"].tolist() == ["north/000.jpg#0", "south/f.png@0,0#0", "south/f.png@30,0#0"]
    [_, field] = sorted((tmp_path / "cells" / "overlays").iterdir())
    green = np.asarray(Image.open(field)).astype(int)
    found = np.argwhere((green[..., 1] > 180) & (green[..., 0] < 140))
    assert found[:, 1].min() < 30 < 50 < found[:, 1].max()  # both cells of the field, each in its place
    text = page.read_text()
    for file in sorted((tmp_path / "cells").rglob("*.jpg")):
        assert file.relative_to(tmp_path / "cells").as_posix() in text
    assert "truncated" in text
    assert "north/004.jpg" in text


def test_a_store_without_cells_has_a_page_too(tmp_path):
    store = Store(write(tmp_path / "store", [image(0, [])], PROVENANCE))
    assert "0 cells" in write_cells(store, {}, tmp_path / "cells").read_text()
