"""Synthetic smears: what is written is exact, repeatable, and tells classes and sites apart."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from cellfeat.core.files import read_json, sha256_file
from cellfeat.data.spec import load_spec
from cellfeat.data.synthetic import SITES, draw_cell_image, draw_field, random_site, write_sites
from cellfeat.data.synthetic.cells import draw_leucocyte
from cellfeat.data.synthetic.recipes import RECIPES
from cellfeat.data.vocabulary import CLASSES
from cellfeat.errors import CellfeatError

NUMBER = 26


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    assert write_sites(folder, NUMBER, seed=3) == ["site-a", "site-b", "site-c"]
    return folder


def labels_of(folder: Path) -> dict[str, str]:
    with open(folder / "labels.csv", newline="") as handle:
        return {row["file"]: row["class"] for row in csv.DictReader(handle)}


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_field_has_as_many_cells_as_fit_and_none_where_none_is_asked_for() -> None:
    rng = np.random.default_rng(5)
    site = random_site(96, 128, 0.5, rng)
    image, masks = draw_field(site, ["lymphocyte"] * 4, rng)
    assert image.shape == (96, 128, 3)
    assert 3 <= len(masks) <= 4
    assert (masks.sum(0) <= 1).all()
    assert draw_field(site, [], rng)[1].shape == (0, 96, 128)
    assert random_site(96, 128, 0.5, rng) != site


def test_recipes_are_the_vocabulary() -> None:
    assert tuple(RECIPES) == CLASSES


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    write_sites(tmp_path / "again", NUMBER, seed=3, sites=SITES[:1])
    write_sites(tmp_path / "other", 1, seed=4, sites=SITES[:1])
    first = {name: d for name, d in digests(root).items() if name.startswith("site-a/")}
    assert digests(tmp_path / "again") == first
    assert digests(tmp_path / "other")["site-a/images/0000.png"] != first["site-a/images/0000.png"]


def test_a_longer_run_begins_with_the_shorter(root: Path, tmp_path: Path) -> None:
    write_sites(tmp_path, 5, seed=3, sites=SITES[:1])
    images = {name: d for name, d in digests(tmp_path).items() if "images/" in name}
    assert len(images) == 5
    assert images.items() <= digests(root).items()


def test_finished_site_is_left_and_unfinished_is_made_again(tmp_path: Path) -> None:
    write_sites(tmp_path, 3, sites=SITES[2:])
    whole = digests(tmp_path)
    image = tmp_path / "site-c/images/0001.jpg"
    before = image.stat().st_mtime_ns
    write_sites(tmp_path, 3, sites=SITES[2:])
    assert image.stat().st_mtime_ns == before
    image.unlink()
    write_sites(tmp_path, 3, sites=SITES[2:])
    assert digests(tmp_path) == whole
    (tmp_path / "site-c/dataset.yaml").unlink()
    write_sites(tmp_path, 2, sites=SITES[2:])
    assert sorted(labels_of(tmp_path / "site-c")) == [p.name for p in sorted((tmp_path / "site-c/images").iterdir())]


def test_a_foreign_dataset_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "site-a").mkdir()
    (tmp_path / "site-a/dataset.yaml").write_text("name: mine\n")
    with pytest.raises(CellfeatError, match="another dataset"):
        write_sites(tmp_path, 1)
    assert (tmp_path / "site-a/dataset.yaml").read_text() == "name: mine\n"
    (tmp_path / "site-a").rename(tmp_path / "mine")
    (tmp_path / "site-b/images").mkdir(parents=True)
    (tmp_path / "site-b/images/0000.jpg").write_text("a picture of the user's")  # without a description
    with pytest.raises(CellfeatError, match="site-b: holds another dataset; choose another folder"):
        write_sites(tmp_path, 1)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["mine", "site-b"]  # nothing was drawn
    assert (tmp_path / "site-b/images/0000.jpg").read_text() == "a picture of the user's"


def test_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CellfeatError, match="at least 1"):
        write_sites(tmp_path, 0)


def test_unknown_class_is_refused() -> None:
    with pytest.raises(CellfeatError, match="'platelet'"):
        draw_cell_image(SITES[0], "platelet", np.random.default_rng(0))


@pytest.mark.parametrize("index", range(len(SITES)))
def test_folder_states_what_it_holds(root: Path, index: int) -> None:
    site = SITES[index]
    folder = root / site.name
    spec = load_spec(folder / "dataset.yaml", site.name)
    assert (spec.domain, spec.um_per_px) == (site.name, site.um_per_px)

    labels = labels_of(folder)
    assert sorted(labels) == sorted(path.name for path in (folder / spec.images).glob(spec.pattern))
    counts = [list(labels.values()).count(name) for name in CLASSES]
    assert counts == [NUMBER // len(CLASSES)] * len(CLASSES)

    coco = read_json(folder / spec.coco)
    assert coco["categories"] == [{"id": 1, "name": "WBC"}]
    assert [image["file_name"] for image in coco["images"]] == list(labels)
    for image in coco["images"]:
        assert cv2.imread(str(folder / "images" / image["file_name"])).shape == (image["height"], image["width"], 3)


def test_coco_masks_are_the_drawn_masks(root: Path) -> None:
    site = SITES[1]
    coco, labels = read_json(root / "site-b/coco.json"), labels_of(root / "site-b")
    cells = 0
    for image in coco["images"]:
        i = image["id"] - 1
        _, masks = draw_cell_image(site, labels[image["file_name"]], np.random.default_rng([3, 1, i]))
        annotations = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert len(annotations) == len(masks)
        for annotation, mask in zip(annotations, masks):
            np.testing.assert_array_equal(rle.decode(annotation["segmentation"]).astype(bool), mask)
            y, x = np.nonzero(mask)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert annotation["area"] == mask.sum()
            cells += 1
    assert cells == len(coco["annotations"]) > NUMBER  # some images hold a second cell


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
@pytest.mark.parametrize("label", CLASSES)
def test_labelled_cell(site, label: str) -> None:
    rgb, masks = draw_cell_image(site, label, np.random.default_rng([5, CLASSES.index(label)]))
    assert rgb.dtype == np.uint8
    assert masks.dtype == bool
    assert masks.shape[1:] == rgb.shape[:2] == (site.height, site.width)
    assert masks.sum(axis=0).max() == 1  # no pixel belongs to two cells

    y, x = np.nonzero(masks[0])
    centre_um = np.array([x.mean() - site.width / 2, y.mean() - site.height / 2]) * site.um_per_px
    assert np.hypot(*centre_um) < 3.5
    low, high = RECIPES[label].diameter
    tolerance = 0.35 if label == "smudge_cell" else 0.12
    diameter_um = 2 * np.sqrt(masks[0].sum() / np.pi) * site.um_per_px
    assert low * (1 - tolerance) < diameter_um < high * (1 + tolerance)

    brightness = rgb.mean(axis=2)
    ground = np.percentile(brightness[~masks.any(axis=0)], 90)
    assert np.percentile(brightness[masks[0]], 10) < ground - 60  # the nucleus


def test_second_cells_are_cut_by_the_border() -> None:
    seconds = [draw_cell_image(SITES[2], "lymphocyte", np.random.default_rng(i))[1][1:] for i in range(40)]
    masks = [mask for group in seconds for mask in group]
    cut = [mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any() for mask in masks]
    assert len(masks) >= 4
    assert np.mean(cut) > 0.8


def test_red_cells_do_not_lie_under_white_cells() -> None:
    """Without red cells the pixels of the labelled cell are the same, but for the blur at its edge."""
    site = replace(SITES[0], noise=0.0)
    bare = replace(site, red_cells_per_um2=0.0)
    rng_full, rng_bare = np.random.default_rng(8), np.random.default_rng(8)
    full, masks = draw_cell_image(site, "monocyte", rng_full)
    alone, masks_alone = draw_cell_image(bare, "monocyte", rng_bare)
    np.testing.assert_array_equal(masks[0], masks_alone[0])
    # Chance differs after the red cells (stain, light), so compare the cell's own pattern, not its colour.
    inside = cv2.erode(masks[0].astype(np.uint8), np.ones((9, 9))) > 0
    assert np.corrcoef(full[inside].mean(axis=1), alone[inside].mean(axis=1))[0, 1] > 0.97


def test_resolution_does_not_change_a_cell() -> None:
    areas = [
        (draw_leucocyte("blast", px_per_um, np.random.default_rng(2)).coverage > 0.5).sum() / px_per_um**2
        for px_per_um in (8.0, 16.0)
    ]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_sites_differ_in_colour(root: Path) -> None:
    means = []
    for site in SITES:
        images = [cv2.imread(str(path)) for path in sorted((root / site.name / "images").iterdir())]
        means.append(np.mean([image.mean(axis=(0, 1)) for image in images], axis=0))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(means[a] - means[b]) > 15


def test_simple_statistics_tell_the_classes_apart() -> None:
    from sklearn.ensemble import RandomForestClassifier

    def statistics(label: str, i: int) -> np.ndarray:
        rgb, masks = draw_cell_image(SITES[0], label, np.random.default_rng([1, i]))
        pixels = rgb[masks[0]].astype(float)
        dark = pixels[:, 1] < 90
        return np.concatenate(
            [[masks[0].sum(), dark.mean()], pixels.mean(axis=0), pixels.std(axis=0), np.percentile(pixels, 20, axis=0)]
        )

    x = np.array([statistics(label, i) for label in CLASSES for i in range(12)])
    y = np.repeat(np.arange(len(CLASSES)), 12)
    train = np.arange(len(y)) % 12 < 8
    forest = RandomForestClassifier(50, random_state=0).fit(x[train], y[train])
    assert forest.score(x[~train], y[~train]) > 0.4  # chance is 0.08


def test_drawing_says_nothing_on_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV prints a warning for each option that a file type does not know."""
    write_sites(tmp_path, 1)
    assert "WARN" not in "".join(capfd.readouterr())
