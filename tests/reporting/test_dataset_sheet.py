import numpy as np
from PIL import Image

from cellfeat.data.catalogue import open_dataset
from cellfeat.reporting.dataset_sheet import describe_dataset, draw_dataset

OUTLINE = (0, 200, 0)


def pixels_of_outlines(path):
    return (np.asarray(Image.open(path)) == OUTLINE).all(axis=2).sum()


def test_a_dataset_with_masks_is_described_and_drawn(data_root, tmp_path):
    dataset = open_dataset(data_root[0])
    lines = list(describe_dataset(dataset))
    assert "images: 13" in lines
    assert any(line.startswith("reference cells: ") and "in 13 annotated images" in line for line in lines)
    assert lines[-1] == "not used: nothing"
    assert pixels_of_outlines(draw_dataset(dataset, tmp_path / "sheet.png", images=2)) > 100


def test_a_folder_of_pictures_alone_is_described_and_drawn(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "mine" / "a.png")
    (tmp_path / "mine" / "cut.png").write_bytes(b"no picture")
    (tmp_path / "mine" / "dataset.yaml").write_text("licence: CC0")
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    dataset = open_dataset("mine")
    lines = list(describe_dataset(dataset))
    assert "labels: none" in lines
    assert any(line.startswith("reference cells: none, so a detector can neither learn") for line in lines)
    assert pixels_of_outlines(draw_dataset(dataset, tmp_path / "sheet.png")) == 0
