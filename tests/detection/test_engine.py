import numpy as np
import pytest
import torch

from cellfeat.detection import build_detector
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.torchvision_engine.paste_masks import paste_masks
from cellfeat.errors import CellfeatError

LOOSE = [
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "0.0",
    "TEST.DETECTIONS_PER_IMAGE",
    "5",
]  # a random network finds "cells" too


@pytest.fixture
def build(tiny, engine):
    def build(*overrides, **options):
        torch.manual_seed(0)
        cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", [*tiny, *LOOSE, *overrides])
        return build_detector(cfg, **{"engine": engine, **options})

    return build


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((64, 64, 3), (100, 70, 3), (64, 64, 3), (65, 130, 3))
    ]


@pytest.mark.parametrize(("pool", "shape"), [("mask", (32, 14, 14)), ("box", (32, 7, 7)), ("box_head", (32, 1, 1))])
def test_every_cell_has_box_score_mask_and_features(build, pictures, pool, shape):
    detector = build(pool=pool)
    assert detector.feature_shape == shape
    for picture, cells in zip(pictures, detector.detect(pictures), strict=True):
        height, width = cells.image_size
        assert (height, width) == picture.shape[:2]
        assert 0 < len(cells) <= 5
        assert cells.masks.shape == (len(cells), height, width)
        assert cells.masks.dtype == bool
        assert cells.roi_features.shape == (len(cells), *shape)
        assert (np.diff(cells.scores) <= 0).all()
        assert (cells.boxes[:, :2] >= 0).all()
        assert (cells.boxes[:, 2:] <= (width, height)).all()
        assert (cells.boxes[:, 2:] > cells.boxes[:, :2]).all()


def test_an_image_is_detected_alike_whatever_its_neighbours(build, pictures):
    detector = build()
    together = detector.detect(pictures)
    for picture, cells in zip(pictures, together, strict=True):
        [alone] = detector.detect([picture])
        np.testing.assert_allclose(alone.boxes, cells.boxes, atol=1e-3)
        np.testing.assert_allclose(alone.roi_features, cells.roi_features, atol=1e-4)


def test_an_image_of_which_groupnorm_would_see_single_values_is_one_line(build):
    detector = build("INPUT.MIN_SIZE_TEST", "32")
    square, longer = np.zeros((50, 50, 3), np.uint8), np.zeros((50, 70, 3), np.uint8)
    assert len(detector.detect([longer])) == 1
    for pictures in ([square], [square, square]):
        with pytest.raises(CellfeatError, match="an image of 32 × 32 px") as error:
            detector.detect(pictures)
        assert "\n" not in str(error.value)


def test_the_box_tap_pools_where_the_mask_tap_does(build, pictures):
    # with the same weights both taps describe the same boxes: 7×7 is the coarser picture of 14×14
    fine, coarse = (build(pool=pool).detect(pictures[:1])[0] for pool in ("mask", "box"))
    np.testing.assert_array_equal(fine.boxes, coarse.boxes)
    pooled = fine.roi_features.reshape(len(fine), 32, 7, 2, 7, 2).mean(axis=(3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.roi_features.ravel())[0, 1] > 0.95


def test_bf16_is_close_to_fp32(build, pictures):
    fp32, bf16 = (build(precision=p).detect(pictures[:1])[0] for p in ("fp32", "bf16"))
    assert abs(fp32.scores[0] - bf16.scores[0]) < 0.02
    assert bf16.roi_features.dtype == np.float32


def test_the_stated_scale_decides_the_size_that_the_network_sees(build):
    detector = build("INPUT.UM_PER_PX", "0.2")
    seen = []
    detector.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    picture = np.zeros((128, 128, 3), np.uint8)
    detector.detect([picture], [0.1])
    detector.detect([picture], [0.2])
    assert seen == [(64, 64), (128, 128)]


def test_nothing_in_nothing_out(build):
    assert build().detect([]) == []


def test_a_network_without_mask_head_gives_no_masks(build, pictures):
    [cells] = build("MODEL.MASK_ON", "False").detect(pictures[:1])
    assert len(cells) > 0
    assert cells.masks.shape == (0, 64, 64)


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8)]
)
def test_another_kind_of_array_is_refused(build, picture):
    with pytest.raises(CellfeatError, match="RGB uint8"):
        build().detect([picture])


@pytest.mark.parametrize("option", [{"engine": "caffe"}, {"pool": "res5"}, {"precision": "fp8"}])
def test_an_unknown_choice_is_named_with_the_known_ones(build, option):
    with pytest.raises(CellfeatError, match="choose from"):
        build(**option)


def test_a_checkpoint_of_another_architecture_is_refused(build, tmp_path):
    torch.save({"model": {"backbone.bottom_up.stem.conv1.weight": torch.zeros(3)}}, tmp_path / "w.pth")
    with pytest.raises(CellfeatError, match="not a checkpoint of this architecture"):
        build("MODEL.WEIGHTS", str(tmp_path / "w.pth"))


def test_masks_are_sampled_at_pixel_centres():
    probabilities = torch.zeros(1, 28, 28)
    probabilities[:, :, 14:] = 1.0
    [mask] = paste_masks(probabilities, torch.tensor([[10.0, 20, 38, 48]]), (60, 50))
    assert mask[20:48, 24:38].all()
    assert mask.sum() == 28 * 14


def test_a_mask_across_the_border_is_cut_there():
    masks = paste_masks(torch.ones(1, 28, 28), torch.tensor([[0.0, 0, 5, 7.4]]), (6, 9))
    assert masks.shape == (1, 6, 9)
    assert masks[0, :, :5].all()
    assert not masks[0, :, 6:].any()
