import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from cellfeat.data.label_images import look_like_labels, split_labels
from cellfeat.data.masks import MaskItem, masks_to_coco
from cellfeat.errors import CellfeatError


class Harm:
    def __reduce__(self):
        return print, ("executed",)


def labels(dtype=np.uint16):
    """Three cells; the first two touch."""
    image = np.zeros((50, 60), dtype)
    image[5:20, 5:20] = 1
    image[20:35, 5:20] = 2
    image[30:45, 35:50] = 3
    return image


def item(tmp_path, save, name="mask.png"):
    Image.new("RGB", (60, 50)).save(tmp_path / "image.png")
    save(tmp_path / name)
    return MaskItem("set/image.png", tmp_path / "image.png", tmp_path / name)


def png(array):
    return lambda path: Image.fromarray(array).save(path)


COLOURS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)


def palette(array):
    image = Image.fromarray(array).convert("P")
    image.putpalette([channel for value in range(256) for channel in COLOURS[value // 60 % 4].tolist()])
    return image.save


def pages(array):
    return lambda path: Image.fromarray(array).save(path, save_all=True, append_images=[Image.fromarray(array)])


def npy(content):
    return lambda path: np.save(path, content, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "save", "kind"),
    [
        ("mask.png", png(labels()), "auto"),
        ("mask.tif", png(labels(np.int32)), "auto"),
        ("mask.png", png(labels(np.uint8)), "labels"),
        ("image_seg.npy", npy({"masks": labels(), "outlines": labels(), "filename": "image.png"}), "auto"),
        ("mask.npy", npy(labels()), "labels"),
    ],
)
def test_each_label_is_a_cell(tmp_path, name, save, kind):
    coco = masks_to_coco([item(tmp_path, save, name)], kind=kind)
    decoded = [rle.decode(annotation["segmentation"]) for annotation in coco["annotations"]]
    np.testing.assert_array_equal(decoded, [labels() == number for number in (1, 2, 3)])
    assert [annotation["bbox"] for annotation in coco["annotations"]] == [
        [5, 5, 15, 15],
        [5, 20, 15, 15],
        [35, 30, 15, 15],
    ]


@pytest.mark.parametrize(
    ("name", "save", "kind", "message"),
    [
        ("mask.png", png(labels(np.uint8)), "auto", "values 0 to 3 may number cells or be levels of grey; say"),
        ("mask.png", png(labels() * 1000), "auto", "values 0 to 3000 may number cells or be levels of grey; say"),
        ("mask.png", png(labels() * 20), "foreground", "brightest pixel is 60, grey 60 of 255, the threshold 127"),
        (
            "mask.png",
            png(np.repeat(labels(np.uint8)[..., None], 3, axis=2)),
            "labels",
            "has colours, alpha or fractions",
        ),
        ("mask.png", png(COLOURS[labels()]), "auto", "has several colours"),
        ("mask.png", palette(labels(np.uint8) * 60), "auto", "has several colours"),
        ("mask.png", png(labels().astype(bool).astype(np.uint8) * 100), "auto", "brightest pixel is 100, grey 100"),
        ("mask.tif", pages(labels()), "auto", "2 pages, a mask has one"),
        ("a_seg.npy", npy({"outlines": labels()}), "labels", "no array of whole numbers"),
        ("a_seg.npy", npy(labels().astype(float)), "labels", "no array of whole numbers"),
        ("a_seg.npy", npy(labels().astype(int) - 1), "labels", "has the value -1; 0 is background"),
        ("a_seg.npy", npy(labels()), "foreground", "an array, not an image"),
        ("a_seg.npy", lambda path: path.write_bytes(pickle.dumps(Harm())), "labels", "a_seg.npy: "),
        ("mask.png", png(labels()[:40]), "auto", "60 x 40 px, its image 60 x 50 px"),
    ],
)
def test_masks_of_another_kind_are_refused(tmp_path, capsys, name, save, kind, message):
    with pytest.raises(CellfeatError, match=message) as caught:
        masks_to_coco([item(tmp_path, save, name)], kind=kind)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_small_cells_are_counted(tmp_path, caplog):
    small = labels()
    small[0, :3] = 4
    with caplog.at_level("INFO", "cellfeat"):
        assert len(masks_to_coco([item(tmp_path, png(small))])["annotations"]) == 3
    assert "1 parts of masks have fewer than 100 px" in caplog.text


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0], np.uint16, False),
        ([0, 1], np.uint16, True),
        ([0, 1, 2, 5], np.uint16, True),
        ([0, 65535], np.uint16, False),
        ([0, 4095], np.uint16, False),
        ([0, 128, 255], np.uint16, None),
        ([0, 300, 65535], np.uint16, False),
        ([0, 1], np.uint8, False),
        ([0, 1, 2], np.uint8, None),
        ([0, 128, 255], np.uint8, False),
        (list(range(256)), np.uint8, False),
        ([-1, 1], np.int32, False),
    ],
)
def test_what_looks_like_labels(values, dtype, expected):
    assert look_like_labels(np.array([values], dtype)) is expected


def test_labels_are_split_by_value():
    parts = split_labels(np.array([[7, 0], [2, 7]]))
    assert [part.tolist() for part in parts] == [[1], [0, 3]]
