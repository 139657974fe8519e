import numpy as np
import pytest

from cellfeat.detection.augmentation import augment
from cellfeat.detection.config import config_dir, load_config

PLAIN = [
    *(
        "INPUT.AUG.ROT90",
        "False",
        "INPUT.RANDOM_FLIP",
        "none",
        "INPUT.AUG.BRIGHTNESS",
        "0.0",
        "INPUT.AUG.CONTRAST",
        "0.0",
    ),
    *("INPUT.AUG.SATURATION", "0.0", "INPUT.AUG.HUE", "0.0", "INPUT.MIN_SIZE_TRAIN", "(80,)"),
]


def draw(overrides, seed=0, um_per_px=None):
    """A dark disc off the centre of a pale 80×100 picture, augmented."""
    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", [*PLAIN, *overrides])
    yy, xx = np.mgrid[:80, :100]
    mask = ((yy - 30) ** 2 + (xx - 35) ** 2 < 15**2).astype(np.uint8)
    image = np.where(mask[..., None], (90, 40, 130), (230, 220, 225)).astype(np.uint8)
    return augment(image, mask[None], um_per_px, cfg, np.random.default_rng(seed))


def fits(image, masks):
    """The mask lies on the disc."""
    dark = image[..., 1] < 130
    return (dark & (masks[0] == 1)).sum() / (dark | (masks[0] == 1)).sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["INPUT.AUG.ROT90", "True"],
        ["INPUT.RANDOM_FLIP", "horizontal"],
        ["INPUT.RANDOM_FLIP", "vertical"],
        ["INPUT.AUG.ROTATION", "45.0"],
        ["INPUT.MIN_SIZE_TRAIN", "(50, 120)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"],
    ],
)
def test_the_mask_follows_the_picture(overrides, seed):
    image, masks = draw(overrides, seed)
    assert masks.shape[1:] == image.shape[:2]
    assert fits(image, masks) > 0.9


def test_quarter_turns_and_flips_reach_all_eight_poses():
    poses = {draw(["INPUT.AUG.ROT90", "True"], seed)[1].tobytes() for seed in range(60)}
    assert len(poses) == 8


def test_colour_changes_the_picture_but_not_the_mask():
    plain, masks = draw([])
    coloured, same = draw(["INPUT.AUG.BRIGHTNESS", "0.3", "INPUT.AUG.HUE", "0.05"])
    np.testing.assert_array_equal(masks, same)
    assert np.abs(plain.astype(int) - coloured).mean() > 2


@pytest.mark.parametrize("key", ["STAIN", "BLUR", "SHADE", "JPEG"])
def test_another_laboratorys_photograph_shows_the_same_cell(key):
    plain, masks = draw([])
    other, same = draw([f"INPUT.AUG.{key}", "1.0"])
    np.testing.assert_array_equal(masks, same)
    assert other.dtype == np.uint8
    assert (other != plain).any()
    luminance = other.mean(2)
    assert luminance[masks[0] == 1].mean() < luminance[masks[0] == 0].mean()


def test_the_same_seed_draws_the_same():
    everything = ["INPUT.AUG.ROT90", "True", "INPUT.AUG.ROTATION", "20.0", "INPUT.AUG.CONTRAST", "0.3"]
    everything += ["INPUT.AUG.STAIN", "0.5", "INPUT.AUG.BLUR", "0.5", "INPUT.AUG.SHADE", "0.2", "INPUT.AUG.JPEG", "0.5"]
    np.testing.assert_array_equal(draw(everything, 3)[0], draw(everything, 3)[0])
    assert not np.array_equal(draw(everything, 3)[0], draw(everything, 4)[0])


def test_a_stated_scale_sets_the_size():
    image, _ = draw(["INPUT.UM_PER_PX", "0.2", "INPUT.MIN_SIZE_TEST", "80"], um_per_px=0.1)
    assert image.shape[:2] == (40, 50)


@pytest.mark.parametrize("edge", [37, 53, 120, 187])
def test_resizing_shifts_the_mask_by_no_part_of_a_pixel(edge):
    # a shift of half a pixel, turned and flipped at random, would teach the detector blurred borders
    image, masks = draw(["INPUT.MIN_SIZE_TRAIN", f"({edge},)"])
    ground, cell = 225.0, 130.0
    darkness = (ground - image[..., 2].astype(float)) / (ground - cell)  # the cell's share of each pixel
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    for axis in (rows, columns):
        assert (axis * masks[0]).sum() / masks[0].sum() == pytest.approx(
            (axis * darkness).sum() / darkness.sum(), abs=0.2
        )
