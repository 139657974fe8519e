from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cellfeat.data.vocabulary import CLASSES
from cellfeat.reporting import palette, plots


def test_every_class_of_the_vocabulary_has_a_look_of_its_own():
    assert set(palette.CLASSES) == set(CLASSES)
    looks = [(style.colour, style.marker) for style in palette.CLASSES.values()]
    assert len(set(looks)) == len(looks)


def test_a_class_whose_name_is_half_a_character_has_a_look():
    assert palette.class_style("caf\udce9").colour


def test_reading_order_puts_strangers_after_the_vocabulary_and_no_label_last():
    order = palette.in_reading_order(["", "zebra", "lymphocyte", "aardvark", "blast", "blast"])
    assert order == ["blast", "lymphocyte", "aardvark", "zebra", ""]


def test_outline_lies_on_the_edge_of_the_mask():
    crop, mask = np.full((20, 20, 3), 100, np.uint8), np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    drawn = plots.outlined(crop, mask)
    assert (drawn[5, 5:15] == plots.OUTLINE).all()
    assert (drawn[9:11, 9:11] == 100).all()
    assert (drawn[:4] == 200).all()  # faded: 0.35 of 100 and 0.65 of white


def test_names_are_never_formulas():
    site, label = np.array(["$x^{$"] * 12), np.array(["$\\frac{", "a_{b}$"] * 6)
    xy = np.random.default_rng(0).normal(size=(12, 2))
    entry = {"train": "$x^{$", "test": "$x^{$", "classes": ["$\\frac{", "$y$"], "counts": [[3, 1], [0, 4]]}
    assert plots.scatter(xy, site, label).startswith(b"\x89PNG")
    assert plots.confusions([entry]).startswith(b"\x89PNG")
    assert plots.curves({"$x^{$": (xy[:, 0], {"$\\frac{": xy[:, 1], "b": xy[:, 1]})}, "epoch").startswith(b"\x89PNG")


def colours_in(png: bytes) -> set[str]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {"#" + bytes(pixel).hex() for pixel in np.unique(pixels, axis=0)}


def test_a_line_has_its_domains_colour_and_no_other_line_has_one():
    x = np.arange(3.0)
    first, second = (colour for colour, _ in palette.domain_colours(["a", "b"]).values())
    shown = colours_in(plots.curves({"spread": (x, {"b": x})}, "epoch", ["a", "b"]))
    assert second in shown
    assert first not in shown
    assert not {first, second} & colours_in(plots.curves({"loss": (x, {"loss": x, "box": x / 2})}, "epoch", ["a", "b"]))


def test_pictures_are_what_they_claim_to_be():
    crops = np.zeros((2, 8, 8, 3), np.uint8)
    assert plots.strip(crops, crops[..., 0]).startswith(b"\xff\xd8")
    entry = {"train": "a", "test": "b", "classes": ["blast", "x"], "counts": [[3, 1], [0, 4]]}
    assert plots.confusions([entry]).startswith(b"\x89PNG")
    x = np.arange(3.0)
    assert plots.curves({"loss": (x, {"loss": x, "other": x * np.nan})}, "epoch").startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error::UserWarning")  # of a layout that has no room for its axes
def test_many_lines_leave_room_for_their_curves():
    x = np.arange(3.0)
    lines = {f"domain {a} to domain {b}, a long name": x + a + b for a in range(3) for b in range(3)}
    assert plots.curves({f"panel {k}": (x, lines) for k in range(6)}, "epoch").startswith(b"\x89PNG")
