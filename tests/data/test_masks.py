import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from cellfeat.data.masks import MaskItem, components, masks_to_coco
from cellfeat.errors import CellfeatError


def item(tmp_path, name, mask, size=None):
    height, width = size or mask.shape[:2]
    Image.new("RGB", (width, height)).save(tmp_path / f"{name}.png")
    Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    return MaskItem(f"set/{name}.png", tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png", um_per_px=0.1)


def two_cells():
    """Cytoplasm 128 with a nucleus of 255, a second cell at the edge, a speck, and a smoothed rim of 60."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[4:17, 9:22] = 60
    mask[5:16, 10:21] = 128
    mask[8:12, 12:15] = 255
    mask[30:40, 50:60] = 128
    mask[1, 1] = 255
    return mask


def test_components_become_instances(tmp_path):
    coco = masks_to_coco([item(tmp_path, "a", two_cells())], threshold=64, min_area=20)
    assert coco["categories"] == [{"id": 1, "name": "WBC"}]
    (image,) = coco["images"]
    assert (image["image_id"], image["height"], image["width"], image["um_per_px"]) == ("set/a.png", 40, 60, 0.1)
    assert [a["bbox"] for a in coco["annotations"]] == [[10, 5, 11, 11], [50, 30, 10, 10]]
    assert [a["area"] for a in coco["annotations"]] == [121, 100]
    decoded = sum(rle.decode(a["segmentation"]) for a in coco["annotations"])
    expected = two_cells() > 64
    expected[1, 1] = False
    np.testing.assert_array_equal(decoded, expected)


def test_rgb_mask_is_cut_by_its_grey_value(tmp_path):
    rgb = np.repeat(two_cells()[..., None], 3, axis=2)
    coco = masks_to_coco([item(tmp_path, "a", rgb)], threshold=64, min_area=20)
    assert [a["area"] for a in coco["annotations"]] == [121, 100]


def test_diagonal_pixels_touch():
    assert len(components(np.eye(5, dtype=bool))) == 1
    assert components(np.zeros((3, 3), dtype=bool)) == []


def test_pycocotools_reads_the_result(tmp_path):
    coco = COCO()
    coco.dataset = masks_to_coco([item(tmp_path, "a", two_cells()), item(tmp_path, "b", two_cells())], 64, 20)
    coco.createIndex()
    assert len(coco.getAnnIds()) == 4
    assert coco.annToMask(coco.loadAnns(coco.getAnnIds(imgIds=[2]))[0]).sum() == 121


def test_masks_are_streamed(tmp_path):
    def items():
        for name in "abc":
            yield item(tmp_path, name, two_cells())

    assert [image["id"] for image in masks_to_coco(items(), 64, 20)["images"]] == [1, 2, 3]


def test_empty_mask_keeps_its_image(tmp_path):
    empty = np.zeros((40, 60), dtype=np.uint8)
    coco = masks_to_coco([item(tmp_path, "a", empty), item(tmp_path, "b", two_cells())], 64, 20)
    assert len(coco["images"]) == 2
    assert {a["image_id"] for a in coco["annotations"]} == {2}


def test_masks_of_zeros_and_ones_are_refused(tmp_path):
    with pytest.raises(CellfeatError, match=r"brightest pixel is 1, grey 1 of 255, the threshold 127; lower threshold"):
        masks_to_coco([item(tmp_path, "a", (two_cells() > 0).astype(np.uint8))])


def test_every_unusable_pair_is_named_at_once(tmp_path):
    wrong_size = item(tmp_path, "a", two_cells(), size=(40, 61))
    missing = MaskItem("set/b.png", wrong_size.image, tmp_path / "nowhere.png")
    with pytest.raises(
        CellfeatError, match=r"2 masks.*a_mask.png: 60 x 40 px, its image 61 x 40.*nowhere.png: no such"
    ):
        masks_to_coco([wrong_size, missing, item(tmp_path, "c", two_cells())])


def test_no_items():
    with pytest.raises(CellfeatError, match="no masks to convert"):
        masks_to_coco([])
