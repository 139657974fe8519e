import unicodedata

import numpy as np
import pytest
from described import describe
from PIL import Image

from cellfeat.data.catalogue import open_dataset
from cellfeat.data.mask_files import mask_name
from cellfeat.errors import CellfeatError

MASK = np.pad(np.full((15, 15), 255, np.uint8), ((5, 10), (5, 20)))


def test_mask_names():
    assert mask_name("sub/Blood_00012.jpg", "Mask_{number}.png") == "sub/Mask_00012.png"
    assert mask_name("a.b.jpg", "{stem}_m.png") == "a.b_m.png"


def test_case_and_unicode_form_of_mask_names_do_not_count(root):
    (root / "set" / "masks").mkdir(parents=True)
    for name in ("Ä.png", "B.JPG"):
        Image.new("RGB", (40, 30)).save(root / "set" / unicodedata.normalize("NFC", name))
    for name in (unicodedata.normalize("NFD", "Ä_M.PNG"), "b_m.png"):
        Image.fromarray(MASK).save(root / "set" / "masks" / name)
    describe(
        root / "set",
        labels={"kind": "none"},
        images=".",
        exclude="masks/**",
        masks={"folder": "masks", "name": "{stem}_m.png"},
    )
    assert open_dataset("set").summary(read_masks=False).annotated == 2
    assert [annotation["bbox"] for annotation in open_dataset("set").coco()["annotations"]] == [[5, 5, 15, 15]] * 2


@pytest.mark.parametrize("folder", ["masks", "."])
def test_masks_without_an_image_are_said(root, folder):
    (root / "set" / "masks").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(root / "set" / "a.png")
    for name in ("a_m.png", "gone_m.png", "notes.png", "._gone_m.png"):
        Image.fromarray(MASK).save(root / "set" / folder / name)
    keys = {
        "labels": {"kind": "none"},
        "images": ".",
        "pattern": "a.png",
        "masks": {"folder": folder, "name": "{stem}_m.png"},
    }
    describe(root / "set", **keys)
    said = {"annotated images that are not there, or several of the name (first gone_m.png)": 1}
    for read_masks in (False, True):
        assert open_dataset("set").summary(read_masks).left_out == said
    describe(root / "set", **keys, strict=True)
    with pytest.raises(CellfeatError, match=r"strict: 1 annotated images that are not there, or several of the name"):
        open_dataset("set").coco()
