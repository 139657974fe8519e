import pytest

from cellfeat.detection.config import config_dir, flatten, get_cfg, load_config
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
    ],
)
def test_what_is_not_supported_is_refused_by_name(key, value):
    cfg = load_config(config_dir() / "Base-RCNN-FPN.yaml", [key, value])
    with pytest.raises(CellfeatError, match=key.replace(".", r"\.")):
        check_supported(cfg)


def test_a_narrow_resnet_has_18_or_34_layers():
    narrow = ["MODEL.BACKBONE.NAME", "build_narrow_resnet_fpn_backbone"]
    for wrong in ([], ["MODEL.RESNETS.DEPTH", "18"]):
        with pytest.raises(CellfeatError, match=r"depth"):
            check_supported(load_config(config_dir() / "Base-RCNN-FPN.yaml", [*narrow, *wrong]))


def test_every_listed_key_exists():
    assert FREE | set(CHOICES) | WITHOUT_EFFECT <= set(flatten(get_cfg()))
