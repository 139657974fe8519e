"""Which config values the torchvision engine supports; the others are refused by name, never ignored.

Images enter both engines through cellfeat's own code, so what is said here of their keys holds for Detectron2 too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.detection.config import flatten, get_cfg
from cellfeat.detection.network_input import GROUPS
from cellfeat.detection.torchvision_engine.backbone import NARROW
from cellfeat.errors import CellfeatError

# Keys whose every sensible value is supported.
FREE = {
    "OUTPUT_DIR", "SEED", "MODEL.DEVICE", "MODEL.MASK_ON", "MODEL.WEIGHTS", "MODEL.WEIGHTS_SHA256", "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD", "MODEL.BACKBONE.FREEZE_AT", "MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.FPN.OUT_CHANNELS",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.ANCHOR_GENERATOR.OFFSET", "MODEL.RPN.IOU_THRESHOLDS", "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
    "MODEL.RPN.POSITIVE_FRACTION", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "MODEL.RPN.BBOX_REG_WEIGHTS",
    "MODEL.RPN.SMOOTH_L1_BETA", "MODEL.RPN.LOSS_WEIGHT", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.POST_NMS_TOPK_TEST", "MODEL.RPN.NMS_THRESH",
    "MODEL.ROI_HEADS.CLASSES",
    "MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.ROI_HEADS.IOU_THRESHOLDS", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "MODEL.ROI_MASK_HEAD.NUM_CONV", "MODEL.ROI_MASK_HEAD.CONV_DIM",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST", "INPUT.UM_PER_PX", "INPUT.AUG.ROT90", "INPUT.AUG.ROTATION", "INPUT.AUG.BRIGHTNESS",
    "INPUT.AUG.CONTRAST", "INPUT.AUG.SATURATION", "INPUT.AUG.HUE", "INPUT.AUG.STAIN", "INPUT.AUG.BLUR",
    "INPUT.AUG.SHADE", "INPUT.AUG.JPEG", "DATASETS.TRAIN", "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "SOLVER.MAX_ITER", "SOLVER.BASE_LR",
    "SOLVER.BASE_LR_END", "SOLVER.MOMENTUM", "SOLVER.NESTEROV", "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.BIAS_LR_FACTOR", "SOLVER.GAMMA", "SOLVER.STEPS", "SOLVER.WARMUP_FACTOR",
    "SOLVER.WARMUP_ITERS", "SOLVER.RESCALE_INTERVAL", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.IMS_PER_BATCH",
    "SOLVER.CLIP_GRADIENTS.ENABLED", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
    "SOLVER.AMP.ENABLED", "TEST.EVAL_PERIOD", "TEST.DETECTIONS_PER_IMAGE", "MODEL.NEW_HEADS",
}  # fmt: skip

# Keys of which this engine knows some values. The annotations' bitmaps serve both mask formats.
CHOICES: dict[str, tuple[Any, ...]] = {
    "MODEL.BACKBONE.NAME": (
        "build_resnet_fpn_backbone",
        "build_narrow_resnet_fpn_backbone",
        "build_vgg16_fpn_backbone",
    ),
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.RESNETS.OUT_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "GN"),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (16, 32, 64, 256),
    "MODEL.FPN.IN_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.FPN.NORM": ("", "BN", "GN"),
    "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"], ["p3", "p4", "p5", "p6"]),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads", "CellROIHeads"),
    "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    "MODEL.ROI_BOX_HEAD.NUM_FC": (2,),
    "MODEL.ROI_MASK_HEAD.NORM": ("", "BN", "GN"),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "INPUT.MASK_FORMAT": ("bitmask", "polygon"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
}

# Keys without effect where Detectron2 itself would give the same numbers, or that only say what to show.
WITHOUT_EFFECT = {
    "VERSION",
    "VIS_PERIOD",
    "CUDNN_BENCHMARK",
    "DATALOADER.ASPECT_RATIO_GROUPING",
    "TEST.EXPECTED_RESULTS",
}


# Of the free keys, numbers are from 0 to LARGEST, but for these.
SIGNED = {"SEED", "MODEL.PIXEL_MEAN"}
POSITIVE = {
    "MODEL.PIXEL_STD",
    "MODEL.FPN.OUT_CHANNELS",
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
    "MODEL.RPN.BBOX_REG_WEIGHTS",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "MODEL.ROI_MASK_HEAD.CONV_DIM",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.MAX_ITER",
    "SOLVER.CHECKPOINT_PERIOD",
}
SHARES = {f"INPUT.AUG.{name}" for name in ("BRIGHTNESS", "CONTRAST", "SATURATION", "STAIN", "BLUR", "SHADE", "JPEG")}
MOST: dict[str, float] = dict.fromkeys(SHARES, 1) | {
    "INPUT.AUG.HUE": 0.5,
    "MODEL.RPN.POSITIVE_FRACTION": 1,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1,
    "DATALOADER.NUM_WORKERS": 1024,
    "SEED": 2**62,  # seeds of iterations are added to it
}
LARGEST = 2**31 - 1
MANY = 2**16  # of channels, classes, layers or pixels: more would fill the memory
MOST |= dict.fromkeys(
    (
        "MODEL.FPN.OUT_CHANNELS",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "MODEL.ROI_BOX_HEAD.FC_DIM",
        "MODEL.ROI_MASK_HEAD.CONV_DIM",
        "INPUT.MIN_SIZE_TRAIN",
        "INPUT.MIN_SIZE_TEST",
    ),
    MANY,
) | dict.fromkeys(
    (
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO",
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
        "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO",
        "MODEL.ROI_MASK_HEAD.NUM_CONV",
    ),
    256,
)
LENGTHS = {"MODEL.PIXEL_MEAN": 3, "MODEL.PIXEL_STD": 3, "MODEL.RPN.BBOX_REG_WEIGHTS": 4}
LENGTHS |= {"MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": 4}
LENGTHS |= {"MODEL.RPN.IOU_THRESHOLDS": 2, "MODEL.ROI_HEADS.IOU_THRESHOLDS": 1}
NESTED = {"MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"}
NAMES = {"DATASETS.TRAIN", "DATASETS.TEST", "MODEL.ROI_HEADS.CLASSES", "MODEL.NEW_HEADS"}

DATA = ("INPUT.", "DATASETS.", "DATALOADER.", "TEST.AUG.")  # what speaks of images, not of the network


def check_supported(cfg: CfgNode) -> None:
    """Refuse a config that the torchvision engine does not support.

    Raises:
        CellfeatError: Names the first such key, its value and what is known instead.
    """
    _check(cfg, ("",), "the torchvision engine does not support", " (Detectron2 may know more)")
    _check_sizes(cfg)
    _check_solver(cfg.SOLVER)
    depth, width = cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS
    name = cfg.MODEL.BACKBONE.NAME
    if name == NARROW and depth >= 50:
        raise CellfeatError(f"MODEL.BACKBONE.NAME {name}: knows the depths 18 and 34, not {depth}")
    if width not in (((16, 32) if name == NARROW else (64,)) if depth < 50 else (256,)):
        raise CellfeatError(f"MODEL.RESNETS.RES2_OUT_CHANNELS: {width} does not go with depth {depth} and {name}")
    for part, channels in ((cfg.MODEL.FPN, "OUT_CHANNELS"), (cfg.MODEL.ROI_MASK_HEAD, "CONV_DIM")):
        if part.NORM == "GN" and part[channels] > GROUPS and part[channels] % GROUPS:
            raise CellfeatError(f"{channels} {part[channels]} with NORM GN: must be a multiple of {GROUPS}")
    if cfg.MODEL.ANCHOR_GENERATOR.OFFSET >= 1:
        raise CellfeatError(f"MODEL.ANCHOR_GENERATOR.OFFSET: {cfg.MODEL.ANCHOR_GENERATOR.OFFSET} must be below 1")
    for key in ("SIZES", "ASPECT_RATIOS"):
        levels = len(lists := cfg.MODEL.ANCHOR_GENERATOR[key])
        if not all(isinstance(one, (list, tuple)) and list(_numbers(one)) == list(one) != [] for one in lists):
            raise CellfeatError(f"MODEL.ANCHOR_GENERATOR.{key}: {lists!r} must be lists of numbers")
        if levels not in (1, len(cfg.MODEL.RPN.IN_FEATURES)):
            raise CellfeatError(
                f"MODEL.ANCHOR_GENERATOR.{key}: {levels} lists for {len(cfg.MODEL.RPN.IN_FEATURES)} levels"
            )


def _check_solver(solver: CfgNode) -> None:
    """Refuse numbers that the optimiser and its schedule do not take together."""
    if solver.NESTEROV and not solver.MOMENTUM:
        raise CellfeatError(f"SOLVER.MOMENTUM: {solver.MOMENTUM} must be above 0 with SOLVER.NESTEROV")
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not solver.BASE_LR:
        raise CellfeatError(f"SOLVER.BASE_LR: {solver.BASE_LR} must be above 0 with WarmupCosineLR")
    if list(solver.STEPS) != sorted(set(solver.STEPS)):
        raise CellfeatError(f"SOLVER.STEPS: {solver.STEPS!r} must rise")


def _check_sizes(cfg: CfgNode) -> None:
    """Refuse sizes of training images of which none can be drawn."""
    edges = list(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(edges) != 2 or edges != sorted(edges)):
        raise CellfeatError(f"INPUT.MIN_SIZE_TRAIN: {edges!r} must be two numbers that rise, for a range")


def check_data_keys(cfg: CfgNode) -> None:
    """Refuse keys about images that cellfeat's own code, which feeds both engines, does not support."""
    _check(cfg, DATA, "images enter by cellfeat's own code, which does not support")
    _check_sizes(cfg)


def _check(cfg: CfgNode, sections: tuple[str, ...], complaint: str, hint: str = "") -> None:
    defaults = flatten(get_cfg())
    for key, value in flatten(cfg).items():
        if not key.startswith(sections) or key in WITHOUT_EFFECT:
            continue
        if key in FREE:
            _check_value(key, value)
            continue
        known = CHOICES.get(key, (defaults[key],))
        if not any(_plain(value) == _plain(choice) for choice in known):
            raise CellfeatError(f"{key}: {complaint} {value!r}; known: {' or '.join(map(repr, known))}{hint}")


def _check_value(key: str, value: Any) -> None:
    """Refuse a value of another kind or size; yacs has seen to it that a number is no text and no list."""
    if key in NAMES:
        if not all(isinstance(name, str) for name in value):
            raise CellfeatError(f"{key}: {value!r} must be texts")
        return
    numbers, positive = list(_numbers(value)), key in POSITIVE
    if key == "SOLVER.WEIGHT_DECAY_BIAS" and value is not None and not numbers:  # yacs knows no type of it
        raise CellfeatError(f"{key}: {value!r} must be a number")
    least, most = -LARGEST if key in SIGNED else 0, MOST.get(key, LARGEST)
    if not all(least <= number <= most for number in numbers) or (positive and (0 in numbers or not numbers)):
        what = f"above {least} and at most" if positive else f"from {least} to"
        raise CellfeatError(f"{key}: {value!r} must be {what} {most}")
    if isinstance(value, (list, tuple)) and key not in NESTED and list(value) != numbers:
        raise CellfeatError(f"{key}: {value!r} must be numbers")
    if key in LENGTHS and len(value) != LENGTHS[key]:
        raise CellfeatError(f"{key}: {value!r} must be {LENGTHS[key]} numbers")
    if key.endswith("IOU_THRESHOLDS") and numbers != sorted(numbers):
        raise CellfeatError(f"{key}: {value!r} must rise")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
