"""Side by side with Detectron2, where it can be imported: defaults, learning rates, training losses."""

import numpy as np
import pytest
import torch
from golden_recipe import image, parameter

from cellfeat.detection.config import ADDED, config_dir, flatten, get_cfg, load_config
from cellfeat.detection.network_input import to_network
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.detection.torchvision_engine.solver import learning_rate

pytestmark = pytest.mark.detectron2


@pytest.fixture
def to_detectron2_cfg():
    from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg

    return to_detectron2_cfg


def test_every_default_is_detectron2s():
    from detectron2.config import get_cfg as detectron2_get_cfg

    theirs = flatten(detectron2_get_cfg())
    ours = {key: value for key, value in flatten(get_cfg()).items() if not key.startswith(ADDED)}
    assert {key: theirs[key] for key in ours} == ours


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(300, 900)"],
        ["SOLVER.RESCALE_INTERVAL", "True"],
        ["SOLVER.WARMUP_METHOD", "constant"],
        ["SOLVER.WARMUP_ITERS", "0"],
    ],
)
def test_learning_rate_is_detectron2s(to_detectron2_cfg, settings):
    from detectron2.solver import build_lr_scheduler

    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    schedule = build_lr_scheduler(to_detectron2_cfg(cfg), optimizer)
    theirs = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose([learning_rate(cfg)(i) for i in range(cfg.SOLVER.MAX_ITER)], theirs, rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"],
        ["MODEL.RPN.SMOOTH_L1_BETA", "0.1", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "0.5", "MODEL.RPN.LOSS_WEIGHT", "2.0"],
        ["MODEL.ROI_HEADS.NUM_CLASSES", "3"],
        ["MODEL.BACKBONE.NAME", "build_narrow_resnet_fpn_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"],
        [
            "MODEL.RPN.IN_FEATURES",
            "['p3', 'p4', 'p5', 'p6']",
            "MODEL.ANCHOR_GENERATOR.SIZES",
            "[[24], [48], [96], [192]]",
        ],
    ],
)
def test_training_losses_are_detectron2s(to_detectron2_cfg, settings):
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, Instances

    cfg = load_config(
        config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml",
        ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", *settings],
    )
    ours = MaskRCNN(cfg).train()
    theirs = build_model(to_detectron2_cfg(cfg)).train()
    shapes = {name: tuple(value.shape) for name, value in to_detectron2(ours.state_dict()).items()}
    state = {name: torch.from_numpy(parameter(name, shape, seed=3)) for name, shape in shapes.items()}
    ours.load_state_dict(to_torchvision(state))
    theirs.load_state_dict(state)

    picture = image(160, 200, 11)
    tensor = to_network(picture, (160, 200), "BGR")
    masks = torch.zeros(2, 160, 200, dtype=torch.uint8)
    masks[0, 40:110, 50:120] = 1
    masks[1, 90:150, 130:190] = 1
    masks[0, 40:60, 50:70] = 0
    boxes = torch.tensor([[50.0, 40, 120, 110], [130, 90, 190, 150]])
    instances = Instances((160, 200))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.tensor([0, cfg.MODEL.ROI_HEADS.NUM_CLASSES - 1])
    instances.gt_masks = BitMasks(masks.bool())

    torch.manual_seed(0)
    losses = ours([tensor], [{"boxes": boxes, "labels": instances.gt_classes + 1, "masks": masks}])
    torch.manual_seed(0)
    from detectron2.utils.events import EventStorage

    with EventStorage():
        expected = theirs([{"image": tensor, "instances": instances}])
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
