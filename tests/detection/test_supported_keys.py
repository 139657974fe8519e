import pytest

from cellfeat.detection.config import config_dir, flatten, get_cfg, load_config
from cellfeat.detection.device import resolve_device
from cellfeat.detection.supported_keys import CHOICES, FREE, WITHOUT_EFFECT, check_supported
from cellfeat.errors import CellfeatError


@pytest.mark.parametrize("path", sorted(config_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configs_that_come_along_are_supported(path):
    check_supported(load_config(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.RESNETS.NUM_GROUPS", "32"),
        ("MODEL.RESNETS.NORM", "SyncBN"),
        ("MODEL.RESNETS.DEPTH", "77"),
        ("MODEL.RPN.BOUNDARY_THRESH", "0"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"),
        ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
        ("INPUT.CROP.ENABLED", "True"),
        ("TEST.AUG.ENABLED", "True"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64]]"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[32]"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[['x']]"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0]]"),
        ("MODEL.ANCHOR_GENERATOR.OFFSET", "1e400"),
        ("MODEL.ANCHOR_GENERATOR.OFFSET", "1.5"),
        ("MODEL.PIXEL_MEAN", "[1, 2]"),
        ("MODEL.PIXEL_STD", "[1.0, 0.0, 1.0]"),
        ("MODEL.PIXEL_STD", "['x', 'y', 'z']"),
        ("MODEL.FPN.OUT_CHANNELS", "0"),
        ("MODEL.FPN.OUT_CHANNELS", "-1"),
        ("MODEL.RPN.NMS_THRESH", "1e400"),
        ("SOLVER.BASE_LR", "-1e400"),
        ("SOLVER.MAX_ITER", "0"),
        ("SOLVER.CHECKPOINT_PERIOD", "0"),
        ("SOLVER.STEPS", "(20, 10)"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "'x'"),
        ("INPUT.MIN_SIZE_TRAIN", "()"),
        ("SEED", "9223372036854775807"),
        ("MODEL.PIXEL_MEAN", "[1, 2, None]"),
        ("MODEL.RPN.IOU_THRESHOLDS", "[0.5]"),
        ("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]"),
        ("MODEL.ROI_BOX_HEAD.FC_DIM", "1000000000"),
        ("INPUT.AUG.HUE", "0.7"),
        ("DATASETS.TRAIN", "(1,)"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(key, value):
    cfg = load_config(config_dir() / "Base-RCNN-FPN.yaml", [key, value])
    with pytest.raises(CellfeatError, match=key.replace(".", r"\.")):
        check_supported(cfg)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0.0"], "SOLVER.MOMENTUM"),
        (["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR", "0.0"], "SOLVER.BASE_LR"),
        (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", "(64,)"], "INPUT.MIN_SIZE_TRAIN"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(overrides, key):
    with pytest.raises(CellfeatError, match=key.replace(".", r"\.")):
        check_supported(load_config(config_dir() / "Base-RCNN-FPN.yaml", overrides))


@pytest.mark.parametrize("key", ["MODEL.FPN.OUT_CHANNELS", "MODEL.ROI_MASK_HEAD.CONV_DIM"])
def test_groupnorm_takes_a_multiple_of_its_groups(key):
    overrides = ["MODEL.FPN.NORM", "GN", "MODEL.ROI_MASK_HEAD.NORM", "GN"]
    check_supported(load_config(config_dir() / "Base-RCNN-FPN.yaml", [*overrides, key, "8"]))
    with pytest.raises(CellfeatError, match=f"{key.rpartition('.')[2]} 48 with NORM GN"):
        check_supported(load_config(config_dir() / "Base-RCNN-FPN.yaml", [*overrides, key, "48"]))


@pytest.mark.parametrize("name", ["", "$x^{$", "../x"])
def test_a_device_that_pytorch_does_not_know_is_one_line(name):
    with pytest.raises(CellfeatError, match=r"MODEL\.DEVICE"):
        resolve_device(name)


def test_a_narrow_resnet_has_18_or_34_layers():
    narrow = ["MODEL.BACKBONE.NAME", "build_narrow_resnet_fpn_backbone"]
    for wrong in ([], ["MODEL.RESNETS.DEPTH", "18"]):
        with pytest.raises(CellfeatError, match=r"depth"):
            check_supported(load_config(config_dir() / "Base-RCNN-FPN.yaml", [*narrow, *wrong]))


def test_every_listed_key_exists():
    assert FREE | set(CHOICES) | WITHOUT_EFFECT <= set(flatten(get_cfg()))
