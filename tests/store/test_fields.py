import json

from store_helpers import cell, image, write

from cellfeat.store import Store
from cellfeat.store.export import export
from cellfeat.store.fields import whole_images, whole_table


def tiled(path):
    """A whole image, and a field of two tiles with a cell each, the second an unreadable image."""
    return write(
        path,
        [
            image(0, [cell(1)]),
            image(1, [cell(2)], image_id="south/f.png@0,0", tile_of="south/f.png", metadata={"group": "p"}),
            image(1, [cell(3)], image_id="south/f.png@50,7", tile_of="south/f.png", tile_x=50, tile_y=7),
            image(3, [], width=0, height=0, reason="truncated"),
        ],
    )


def test_tiles_are_put_together(tmp_path):
    store = Store(tiled(tmp_path / "store"))
    images = whole_images(store.images()).set_index("image_id")
    assert images.index.tolist() == ["north/000.jpg", "south/f.png", "south/003.jpg"]
    assert images.loc["south/f.png", ["width", "height", "cells", "group"]].tolist() == [140, 67, 2, "p"]
    table, plain = whole_table(store.table(), store.images()), store.table()
    assert table["image_id"].tolist() == ["north/000.jpg", "south/f.png", "south/f.png"]
    assert (table.loc[2, ["x0", "y0"]] - plain.loc[2, ["x0", "y0"]]).tolist() == [50, 7]
    assert table.loc[:1, "x0"].tolist() == plain.loc[:1, "x0"].tolist()
    assert store.detection_rate().loc["south", ["images", "with_cell", "cells", "unreadable"]].tolist() == [1, 1, 2, 1]


def test_detections_are_exported_in_the_field(tmp_path):
    export(Store(tiled(tmp_path / "store")), tmp_path / "coco.json", None, [], 0.1)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["north/000.jpg", "south/f.png"]
    assert [a["image_id"] for a in coco["annotations"]] == [1, 2, 2]
    assert coco["annotations"][2]["bbox"][0] == 51
