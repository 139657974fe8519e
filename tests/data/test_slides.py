"""Slides: regions, scale and damage of small pyramidal TIFF files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tifffile

from cellfeat.data import slides
from cellfeat.data.images import UnreadableImage
from cellfeat.data.paths import open_paths
from cellfeat.data.slides import file_scale, is_slide, open_slide, picture_size, read_picture
from cellfeat.reporting.dataset_sheet import draw_dataset

pytest.importorskip("openslide")
PICTURE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def write(path, picture=PICTURE, bigtiff=False, **options):
    """Two levels in tiles, 0.25 µm a pixel; returns `path`."""
    known = {"photometric": "rgb", "tile": (128, 128), "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as file:
        file.write(picture, **{**known, "metadata": None, **options})
        if "metadata" not in options:
            file.write(np.ascontiguousarray(picture[::2, ::2]), subfiletype=1, metadata=None, **known)
    return path


@pytest.mark.parametrize("bigtiff", [False, True])
def test_regions_and_scale(tmp_path, bigtiff):
    path = write(tmp_path / "a.svs", bigtiff=bigtiff)
    assert is_slide(path)
    assert picture_size(path) == (300, 400)
    assert file_scale(path) == 0.25
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(150, 20, 130, 200), PICTURE[20:220, 150:280])
        assert slide.read(390, 290, 20, 20)[15:, 15:].min() == 255  # outside is white
        assert slide.thumbnail(100).shape == (75, 100, 3)
    np.testing.assert_array_equal(read_picture(path), PICTURE)


def test_the_stained_region(tmp_path):
    picture = np.full((300, 400, 3), 240, np.uint8)
    picture[200:260, 300:380] = (90, 30, 120)
    with open_slide(write(tmp_path / "a.svs", picture)) as slide:
        assert (slide.stained_region(60) == (90, 30, 120)).mean() > 0.9
        assert slide.stained_region(1000).shape == picture.shape


@pytest.mark.parametrize(("unit", "scale"), [("µm", 0.5), ("nm", 0.0005), (None, 0.5), ("pixel", None)])
def test_ome_tiff_states_its_scale(tmp_path, unit, scale):
    said = {"axes": "YXS", "PhysicalSizeX": 0.5} | ({"PhysicalSizeXUnit": unit} if unit else {})
    assert file_scale(write(tmp_path / "a.ome.tif", metadata=said)) == (scale and pytest.approx(scale))


def test_a_large_tiff_is_a_slide_and_is_never_read_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", bigtiff=True)
    assert not is_slide(path)
    assert file_scale(path) is None  # resolution tags of ordinary TIFF files say 72 dpi
    monkeypatch.setattr(slides, "SMALLEST", 1000)
    monkeypatch.setattr(slides, "MAX_PIXELS", 100_000)
    assert is_slide(path)
    assert file_scale(path) == 0.25
    with pytest.raises(UnreadableImage, match="400 x 300 px, more than 100,000; it is read in tiles only"):
        read_picture(path)


def test_slides_that_cannot_be_read_say_why(tmp_path, monkeypatch):
    whole = write(tmp_path / "a.svs").read_bytes()
    strips = tmp_path / "strips.svs"
    tifffile.imwrite(strips, PICTURE, photometric="rgb")
    (tmp_path / "text.svs").write_text("no slide")
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 3])
    for name, words in (("strips", "must be tiled"), ("text", "no slide"), ("none", "no such file")):
        with pytest.raises(UnreadableImage, match=words):
            picture_size(tmp_path / f"{name}.svs")
    with pytest.raises(UnreadableImage):
        read_picture(tmp_path / "cut.svs")
    assert file_scale(tmp_path / "text.svs") is None
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(UnreadableImage, match=r"needs pip install 'cellfeat\[slides\]'"):
        picture_size(tmp_path / "a.svs")


def test_a_folder_of_slides_is_a_dataset(tmp_path):
    (tmp_path / "site").mkdir()
    write(tmp_path / "site/a.svs")
    [dataset] = open_paths([str(tmp_path / "site")])
    [record] = dataset.records()
    assert (record.image_id, record.um_per_px) == ("site/a.svs", 0.25)
    assert draw_dataset(dataset, tmp_path / "sheet.png").is_file()
