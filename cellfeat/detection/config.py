"""Detector configs: Detectron2's YAML in, a checked and frozen `CfgNode` out, with or without Detectron2 installed.

The tree below carries Detectron2's key names and default values for what a Mask R-CNN with FPN needs, plus the few keys
that cellfeat adds. `supported_keys` lists what the torchvision engine supports; a key of no tree is refused here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.detection.config_file import read_config_file
from cellfeat.errors import CellfeatError

# What yacs raises on a value that does not fit; the last two on a text nested so deeply that Python cannot parse it.
UNFIT = (KeyError, ValueError, AssertionError, RecursionError, MemoryError)
SHOWN = 200  # characters of a fault in a message: yacs puts whole values and trees into its own

DEFAULT_CONFIG = "wbc_mask_rcnn_R_101_FPN.yaml"  # the detector of AE-CFE
BUILT_IN_CONFIG = "wbc_builtin.yaml"  # of the detector that comes with the package

# Parts of Detectron2's tree that belong to other architectures: they have no effect on a Mask R-CNN whatever they say,
# so a config that Detectron2 dumped whole is read without them.
OTHER_ARCHITECTURES = (
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.PANOPTIC_FPN",
    "MODEL.RETINANET",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_KEYPOINT_HEAD",
    "MODEL.SEM_SEG_HEAD",
    "TEST.KEYPOINT_OKS_SIGMAS",
)

# What Detectron2's tree does not have.
ADDED = ("MODEL.WEIGHTS_SHA256", "MODEL.NEW_HEADS", "MODEL.ROI_HEADS.CLASSES", "INPUT.UM_PER_PX", "INPUT.AUG")

# Those of them that came after a release: at their default, which is empty, they are not written.
LATER: tuple[tuple[Callable[[CfgNode], CfgNode], str], ...] = (
    (lambda cfg: cfg.MODEL, "NEW_HEADS"),
    (lambda cfg: cfg.MODEL.ROI_HEADS, "CLASSES"),
    *((lambda cfg: cfg.INPUT.AUG, key) for key in ("STAIN", "BLUR", "SHADE", "JPEG")),
)

DEFAULTS: dict[str, Any] = {
    "VERSION": 2,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "DEVICE": "cuda",
        "MASK_ON": False,
        "WEIGHTS": "",
        "WEIGHTS_SHA256": "",  # cellfeat: the file that MODEL.WEIGHTS must be; empty: not checked
        "NEW_HEADS": (),  # cellfeat: beginnings of parameter names that start afresh, whatever MODEL.WEIGHTS holds
        "PIXEL_MEAN": [103.530, 116.280, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "RESNETS": {
            "DEPTH": 50,
            "OUT_FEATURES": ["res4"],
            "NUM_GROUPS": 1,
            "NORM": "FrozenBN",
            "WIDTH_PER_GROUP": 64,
            "STRIDE_IN_1X1": True,
            "RES5_DILATION": 1,
            "RES2_OUT_CHANNELS": 256,
            "STEM_OUT_CHANNELS": 64,
            "DEFORM_ON_PER_STAGE": [False, False, False, False],
            "DEFORM_MODULATED": False,
            "DEFORM_NUM_GROUPS": 1,
        },
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"},
        "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},
        "ANCHOR_GENERATOR": {
            "NAME": "DefaultAnchorGenerator",
            "SIZES": [[32, 64, 128, 256, 512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "ANGLES": [[-90, 0, 90]],
            "OFFSET": 0.0,
        },
        "RPN": {
            "HEAD_NAME": "StandardRPNHead",
            "IN_FEATURES": ["res4"],
            "BOUNDARY_THRESH": -1,
            "IOU_THRESHOLDS": [0.3, 0.7],
            "IOU_LABELS": [0, -1, 1],
            "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
            "SMOOTH_L1_BETA": 0.0,
            "LOSS_WEIGHT": 1.0,
            "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000,
            "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000,
            "NMS_THRESH": 0.7,
            "CONV_DIMS": [-1],
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeads",
            "NUM_CLASSES": 80,
            "CLASSES": (),  # cellfeat: their names in the order of the outputs; empty: see `cellfeat.detection.classes`
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5],
            "IOU_LABELS": [0, 1],
            "BATCH_SIZE_PER_IMAGE": 512,
            "POSITIVE_FRACTION": 0.25,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.5,
            "PROPOSAL_APPEND_GT": True,
        },
        "ROI_BOX_HEAD": {
            "NAME": "",
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0,
            "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
            "SMOOTH_L1_BETA": 0.0,
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "NUM_FC": 0,
            "FC_DIM": 1024,
            "NUM_CONV": 0,
            "CONV_DIM": 256,
            "NORM": "",
            "CLS_AGNOSTIC_BBOX_REG": False,
            "TRAIN_ON_PRED_BOXES": False,
            "USE_FED_LOSS": False,
            "USE_SIGMOID_CE": False,
            "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
            "FED_LOSS_NUM_CLASSES": 50,
        },
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead",
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2",
            "NUM_CONV": 0,
            "CONV_DIM": 256,
            "NORM": "",
            "CLS_AGNOSTIC_MASK": False,
        },
    },
    "INPUT": {
        "MIN_SIZE_TRAIN": (800,),
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "UM_PER_PX": 0.0,  # cellfeat: µm a pixel that the network sees, where the dataset states its own; 0: off
        "RANDOM_FLIP": "horizontal",
        "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
        "FORMAT": "BGR",
        "MASK_FORMAT": "polygon",
        "AUG": {  # cellfeat: a smear has no up and no down, and its stain varies
            "ROT90": False,  # flips and quarter turns, all eight with equal probability
            "ROTATION": 0.0,  # degrees, uniform in ±ROTATION
            "BRIGHTNESS": 0.0,  # factors uniform in 1 ± value
            "CONTRAST": 0.0,
            "SATURATION": 0.0,
            "HUE": 0.0,  # fraction of the colour circle, uniform in ±HUE
            "STAIN": 0.0,  # share of the images that are stained anew, see cellfeat.data.restain
            "BLUR": 0.0,  # share of the images out of focus
            "SHADE": 0.0,  # the light falls by up to this share from one side to the other
            "JPEG": 0.0,  # share of the images that are compressed once more, quality 30 to 95
        },
    },
    "DATASETS": {
        "TRAIN": (),
        "TEST": (),
        "PROPOSAL_FILES_TRAIN": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
        "PROPOSAL_FILES_TEST": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "ASPECT_RATIO_GROUPING": True,
        "SAMPLER_TRAIN": "TrainingSampler",
        "REPEAT_THRESHOLD": 0.0,
        "REPEAT_SQRT": True,
        "FILTER_EMPTY_ANNOTATIONS": True,
    },
    "SOLVER": {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": 40000,
        "BASE_LR": 0.001,
        "BASE_LR_END": 0.0,
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "WEIGHT_DECAY": 0.0001,
        "WEIGHT_DECAY_NORM": 0.0,
        "WEIGHT_DECAY_BIAS": None,
        "BIAS_LR_FACTOR": 1.0,
        "GAMMA": 0.1,
        "STEPS": (30000,),
        "NUM_DECAYS": 3,
        "WARMUP_FACTOR": 1.0 / 1000,
        "WARMUP_ITERS": 1000,
        "WARMUP_METHOD": "linear",
        "RESCALE_INTERVAL": False,
        "CHECKPOINT_PERIOD": 5000,
        "IMS_PER_BATCH": 16,
        "REFERENCE_WORLD_SIZE": 0,
        "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0},
        "AMP": {"ENABLED": False},
    },
    "TEST": {
        "EXPECTED_RESULTS": [],
        "EVAL_PERIOD": 0,
        "DETECTIONS_PER_IMAGE": 100,
        "AUG": {
            "ENABLED": False,
            "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
            "MAX_SIZE": 4000,
            "FLIP": True,
        },
        "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
    },
    "GLOBAL": {"HACK": 1.0},
}


def get_cfg() -> CfgNode:
    """A fresh, mutable config at the default values."""
    return CfgNode(DEFAULTS).clone()


def load_config(yaml_path: str | Path, overrides: list[str] | None = None) -> CfgNode:
    """Read a Detectron2 config.

    Args:
        yaml_path: A YAML file; its `_BASE_` may name another, relative to it.
        overrides: Detectron2's `KEY VALUE KEY VALUE ...`.

    Returns:
        The frozen config, every key present.

    Raises:
        CellfeatError: The file is missing or not YAML, a key does not exist, or a value is of the wrong type or null.
    """
    cfg = get_cfg()
    path = Path(yaml_path)
    if not path.is_file():
        raise CellfeatError(f"{path}: no such config file", "`cellfeat configs` lists those that come with cellfeat")
    tree = CfgNode(read_config_file(path))
    _drop_other_architectures(tree, str(path))
    try:
        cfg.merge_from_other_cfg(tree)
    except UNFIT as error:
        raise CellfeatError(f"{path}: {_explain(error)}") from None
    merge_overrides(cfg, overrides or [])
    defaults = flatten(get_cfg())
    for key, value in flatten(cfg).items():
        if value is None and defaults.get(key) is not None:
            raise CellfeatError(f"{key}: has no value", f"leave it out for {defaults[key]!r}")
    cfg.freeze()
    return cfg


def find_config(name: str | Path | None) -> Path:
    """A config file by its path, or by its bare name among those that come with cellfeat; None: the paper's detector.

    Raises:
        CellfeatError: There is no such file.
    """
    path = Path(name or DEFAULT_CONFIG)
    if path.is_file():
        return path
    shipped = sorted(file.name for file in config_dir().glob("*.yaml"))
    if len(path.parts) == 1 and path.name in shipped:
        return config_dir() / path.name
    near = difflib.get_close_matches(path.name, shipped, n=1)
    hint = f"did you mean {near[0]}, which comes with cellfeat?" if near else f"cellfeat has {', '.join(shipped)}"
    raise CellfeatError(f"{path}: no such config file", hint)


def merge_overrides(cfg: CfgNode, overrides: list[str]) -> None:
    """Merge Detectron2's `KEY VALUE ...` list into a mutable `cfg`; errors as `load_config`."""
    if len(overrides) % 2:
        raise CellfeatError(f"overrides come as KEY VALUE pairs, but {overrides[-1]!r} has no value")
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except UNFIT as error:
            raise CellfeatError(f"{key} {value[:SHOWN]}: {_explain(error, key)}") from None


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """`{"MODEL.RPN.NMS_THRESH": 0.7, ...}`: every leaf by its dotted name."""
    leaves: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        leaves.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return leaves


def portable(cfg: CfgNode) -> str:
    """The config as YAML without its paths, which change no number: what a dump depends on beside its weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = cfg.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS_SHA256 = ""
    for section, key in LATER:  # as in what was made before these keys were
        if not section(cfg)[key]:
            del section(cfg)[key]
    return cfg.dump()


def config_dir() -> Path:
    """The folder of configs that comes with cellfeat: `detectron_configs/` of a checkout, or its installed copy."""
    here = Path(__file__).resolve().parents[1]
    checkout = here.parent / "detectron_configs"
    return checkout if checkout.is_dir() else here / "detectron_configs"


def shipped_configs() -> dict[Path, str]:
    """The configs that come with cellfeat, each with what it is for: the comment that it begins with."""
    return {path: _first_comment(path) for path in sorted(config_dir().glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def _drop_other_architectures(tree: CfgNode, source: str) -> None:
    if isinstance(tree.get("MODEL"), dict) and tree["MODEL"].get("KEYPOINT_ON"):
        raise CellfeatError(f"{source}: MODEL.KEYPOINT_ON: cells have no key points; set it to False")
    for name in OTHER_ARCHITECTURES:
        section, key = name.split(".")
        if isinstance(tree.get(section), dict):
            tree[section].pop(key, None)


def _explain(error: Exception, key: str = "") -> str:
    if isinstance(error, (RecursionError, MemoryError)):
        return "a value is nested too deeply to be read"
    text = _one_line(error)
    if isinstance(error, KeyError) or "Non-existent" in text:
        missing = text.removeprefix("Non-existent config key:").removeprefix("Non-existent key:").strip(" '\"") or key
        return f"unknown config key {missing}; see cellfeat/detection/config.py for the keys there are"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())
