import numpy as np
import pytest
from PIL import Image

from cellfeat.data.dataset import ImageRecord
from cellfeat.workflows.dump_images import read_ahead


@pytest.fixture
def records(tmp_path):
    """Pictures of 100, 400, 100, 900 and 100 px; the third is damaged."""
    found = []
    for number, side in enumerate((10, 20, 10, 30, 10)):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (side, side)).save(path)
        found.append(ImageRecord(f"site/{number}.png", path, "site", "", None))
    (tmp_path / "2.png").write_text("no picture")
    return found


def numbers(parts):
    return [[int(record.path.stem) for record in part] for part, _ in parts]


def test_a_batch_is_divided_by_its_pixels_whatever_is_done(records):
    assert numbers(read_ahead(records, 4, set())) == [[0, 1, 2, 3], [4]]
    assert numbers(read_ahead(records, 4, set(), pixels=500)) == [[0, 1, 2], [3], [4]]
    assert numbers(read_ahead(records, 4, {"site/0.png", "site/1.png"}, pixels=500)) == [[0, 1, 2], [3], [4]]
    assert numbers(read_ahead(records, 4, {f"site/{k}.png" for k in range(4)}, pixels=500)) == [[4]]
    assert list(read_ahead(records, 4, {record.image_id for record in records})) == []


def test_one_part_is_read_ahead_and_no_more(records):
    parts = read_ahead(records, 5, set(), pixels=1)
    _, [first] = next(parts)
    for record in records[2:]:
        record.path.unlink()
    rest = [image for _, images in parts for image in images]
    assert first.shape == (10, 10, 3)
    assert isinstance(rest[0], np.ndarray)
    assert rest[1:] == ["no such file"] * 3
