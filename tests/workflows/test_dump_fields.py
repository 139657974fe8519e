import numpy as np
import pandas as pd
import pytest
from dark_spots import DarkSpots, disc_field
from PIL import Image

from cellfeat.core.files import read_json
from cellfeat.data.paths import open_paths
from cellfeat.data.slides import Slide
from cellfeat.detection.config import config_dir, load_config
from cellfeat.reporting.cells import write_cells
from cellfeat.store.fields import whole_images, whole_table
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.dump_fields import DIAMETERS
from cellfeat.workflows.dump_summary import SUMMARY

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A folder with a field of 60 discs, a truncated field and a small picture of one disc: (folder, boxes)."""
    folder = tmp_path_factory.mktemp("smears") / "site"
    folder.mkdir()
    field, found = disc_field(count=60)
    Image.fromarray(field).save(folder / "field.png")
    (folder / "cut.png").write_bytes((folder / "field.png").read_bytes()[:-900])
    one = np.full((120, 120, 3), 255, np.uint8)
    one[40:80, 40:80] = 40
    Image.fromarray(one).save(folder / "one.png")
    return folder, found


@pytest.fixture
def run(boxes, tmp_path, monkeypatch):
    """Dumps the folder with a detector of dark spots that sees 25 to 200 px at a short edge of 224."""
    (tmp_path / "weights.pth").touch()
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(tmp_path / "weights.pth")])

    def run(output, detector=None, **options):
        detector = detector or DarkSpots(short=224, seen=(25, 200))
        detector.max_detections = 3  # of a picture of one cell; fields have no limit
        monkeypatch.setattr("cellfeat.workflows.dumper.build_detector", lambda *args, **more: detector)
        config = DumpConfig(crop_size=32, batch_size=4, **options)
        return dump(cfg, open_paths([str(boxes[0])]), tmp_path / output, config)

    return run


def test_every_cell_of_a_field_is_stored_once_and_found_at_its_place(run, boxes, tmp_path, caplog):
    with caplog.at_level("INFO", "cellfeat"):
        store = run("store")
    assert "cells are about" in caplog.text
    images, table = store.images(), whole_table(store.table(), store.images())
    tiles = images[images["tile_of"] == "site/field.png"]
    assert (
        tiles["image_id"] == tiles["tile_of"] + "@" + tiles["tile_x"].map(str) + "," + tiles["tile_y"].map(str)
    ).all()
    of_field = table[table["image_id"] == "site/field.png"]
    assert sorted(map(tuple, of_field[["x0", "y0", "x1", "y1"]].astype(int).to_numpy())) == boxes[1]
    whole = whole_images(images).set_index("image_id")
    assert whole.loc["site/field.png", ["width", "height", "cells"]].tolist() == [700, 540, 60]
    assert whole.loc["site/cut.png", "reason"] == "truncated"
    assert whole.loc["site/one.png", "cells"] == 1
    assert read_json(store.path / SUMMARY)["site"]["with_cell"] == 2
    assert store.verify() == []
    rows = np.flatnonzero(table["image_id"] == "site/field.png")
    assert store.read("masks", rows).mean(axis=(1, 2)).min() > 0.3  # discs in their crops
    assert read_json(store.path / DIAMETERS).keys() == {"site"}


class Stopping(DarkSpots):
    """Ends the process after some pictures."""

    def detect(self, images, um_per_px=None):
        if self.calls > 30:
            raise KeyboardInterrupt
        return super().detect(images, um_per_px)


def test_a_field_that_was_interrupted_goes_on(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run("broken", Stopping(short=224, seen=(25, 200)))
    resumed, whole = run("broken"), run("whole")
    assert len(resumed) > 0
    pd.testing.assert_frame_equal(resumed.table(), whole.table())
    pd.testing.assert_frame_equal(resumed.images(), whole.images())
    np.testing.assert_array_equal(resumed.read("crops", slice(None)), whole.read("crops", slice(None)))
    again = DarkSpots(short=224, seen=(25, 200))
    assert run("broken", again).digest == resumed.digest
    assert again.calls == 0


def test_fields_can_be_dumped_whole(run):
    store = run("store", fields="whole", select="all")
    assert (store.images()["tile_of"] == "").all()
    assert store.images().set_index("image_id").loc["site/field.png", "cells"] == 0  # they are too small there
    assert store.provenance["dump"]["fields"] == "whole"


def test_a_field_without_a_cell_at_any_scale_is_said(run, caplog):
    run("store", DarkSpots(short=224, seen=(1000, 2000)))
    assert "site: no cell was found at any scale" in caplog.text


def test_a_slide_is_dumped_tile_by_tile_in_its_own_scale(tmp_path, monkeypatch):
    """The discs are 13 to 31 px wide, so 7 to 18 µm at the 0.57 µm a pixel that the file states."""
    pytest.importorskip("openslide")
    tifffile = pytest.importorskip("tifffile")
    field, found = disc_field(count=60)
    (tmp_path / "site").mkdir()
    resolution = (10_000 / 0.57, 10_000 / 0.57)
    with tifffile.TiffWriter(tmp_path / "site/a.svs") as file:
        for level in (field, np.ascontiguousarray(field[::2, ::2])):
            file.write(level, tile=(128, 128), resolution=resolution, resolutionunit="CENTIMETER", metadata=None)
    read, regions = Slide.read, []
    monkeypatch.setattr(Slide, "read", lambda self, *box: regions.append(box) or read(self, *box))
    (tmp_path / "weights.pth").touch()
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(tmp_path / "weights.pth")])
    detector = DarkSpots(short=224, seen=(25, 200))
    monkeypatch.setattr("cellfeat.workflows.dumper.build_detector", lambda *args, **more: detector)
    [dataset] = open_paths([str(tmp_path / "site")])
    store = dump(cfg, [dataset], tmp_path / "store", DumpConfig(crop_size=32, batch_size=4))
    table = whole_table(store.table(), store.images())
    assert sorted(map(tuple, table[["x0", "y0", "x1", "y1"]].astype(int).to_numpy())) == found
    assert max(width for _, _, width, _ in regions) < 700 / 2
    page = write_cells(store, {record.image_id: record for record in dataset.records()}, tmp_path / "cells")
    cells = pd.read_csv(page.with_name("cells.csv"))
    assert cells["diameter_um"].between(6, 20).all()
