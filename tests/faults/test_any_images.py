"""Whatever images come, the store gives back what was put in."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

SHAPE, SIDE = (2, 2, 1), 2
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@st.composite
def cells(draw, width, height):
    x0, y0 = draw(st.floats(0, 1)) * width, draw(st.floats(0, 1)) * height
    x1, y1 = x0 + draw(st.floats(0, 1)) * (width - x0), y0 + draw(st.floats(0, 1)) * (height - y0)
    box = draw(
        st.sampled_from([(x0, y0, x1, y1), (0, 0, width, height), (-1, -1, width + 1, height + 1), (x0, y0, x0, y0)])
    )
    values = draw(st.lists(st.floats(-6e4, 6e4, width=16), min_size=4, max_size=4))
    crop = np.full((SIDE, SIDE, 3), draw(st.integers(0, 255)), np.uint8)
    mask = np.full((SIDE, SIDE), draw(st.booleans()))
    label = draw(st.sampled_from(["", "monocyte", "Lymphozyt ä", "白血球"]))
    return CellRow(np.array(values).reshape(SHAPE), crop, mask, np.array(box), draw(st.floats(0, 1)), label)


@st.composite
def images(draw):
    result = []
    for name in draw(st.lists(NAMES, max_size=8, unique=True)):
        width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
        found = draw(st.lists(cells(width, height), max_size=4))
        result.append(ImageResult(name, draw(NAMES), draw(st.sampled_from(["", "blast"])), width, height, cells=found))
    return result


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(images=images(), shard_cells=st.integers(1, 5))
def test_what_goes_in_comes_out(images, shard_cells):
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter(Path(folder) / "store", SHAPE, SIDE, {"ü": "ß"}, shard_cells=shard_cells) as writer:
            for image in images:
                writer.add(image)
        store = Store(Path(folder) / "store")
        assert [line for line in store.verify() if "constant feature" not in line] == []
        expected = [(image, cell) for image in images for cell in sorted(image.cells, key=lambda cell: -cell.score)]
        table = store.table()
        assert table["image_id"].tolist() == [image.image_id for image, _ in expected]
        assert table["domain"].tolist() == [image.domain for image, _ in expected]
        assert table["label"].tolist() == [cell.label for _, cell in expected]
        assert store.images()["cells"].tolist() == [len(image.cells) for image in images]
        features = store.read("features", slice(None))
        boxes = store.read("boxes", slice(None))
        for k, (_, cell) in enumerate(expected):
            np.testing.assert_array_equal(features[k], cell.feature.astype(np.float16))
            np.testing.assert_array_equal(boxes[k], cell.box.astype(np.float32))


def test_one_image_of_thousands_of_cells(tmp_path):
    row = CellRow(
        np.arange(4.0).reshape(SHAPE), np.zeros((SIDE, SIDE, 3), np.uint8), np.ones((SIDE, SIDE)) > 0, np.zeros(4), 1.0
    )
    with StoreWriter(tmp_path / "store", SHAPE, SIDE, {}) as writer:
        writer.add(ImageResult("many.png", "site", "", 9, 9, cells=[row] * 2_000))
        writer.add(ImageResult("none.png", "site", "", 9, 9))
        writer.add(ImageResult("one.png", "site", "", 9, 9, cells=[row]))
    store = Store(tmp_path / "store")
    assert store.images()["cells"].tolist() == [2_000, 0, 1]
    assert store.verify() == []
    assert store.table()["cell_id"].iloc[[0, 1_999, 2_000]].tolist() == ["many.png#0", "many.png#1999", "one.png#0"]
