"""cellfeat's config in Detectron2's tree: the one place where the two meet."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.config import get_cfg as detectron2_cfg
from fvcore.common.config import CfgNode as PlainCfgNode

from cellfeat.detection.config import ADDED, get_cfg
from cellfeat.detection.detectron2_engine import narrow_resnet, roi_heads, vgg  # noqa: F401 - they register what configs name
from cellfeat.detection.supported_keys import check_data_keys
from cellfeat.errors import CellfeatError

ROI_HEADS = ("StandardROIHeads", "CellROIHeads")


def add_cellfeat_config(cfg: CfgNode) -> None:
    """Add cellfeat's keys to Detectron2's tree, so that `cfg` can be merged from the same YAML files.

    They are `cellfeat.detection.config.ADDED`, and MODEL.ROI_HEADS.POOL: the features that `CellROIHeads` attaches.
    """
    ours = get_cfg()
    for key in ADDED:
        *path, leaf = key.split(".")
        source, target = ours, cfg
        for part in path:
            source, target = source[part], target[part]
        value = source[leaf]
        target[leaf] = CfgNode(value) if isinstance(value, dict) else value
    cfg.MODEL.ROI_HEADS.POOL = "mask"


def to_detectron2_cfg(cfg: PlainCfgNode, pool: str = "mask") -> CfgNode:
    """A config of `load_config` in Detectron2's tree, with `CellROIHeads` in the place of the standard heads.

    Raises:
        CellfeatError: Other ROI heads, or a key about images that cellfeat does not support.
    """
    check_data_keys(cfg)
    if cfg.MODEL.ROI_HEADS.NAME not in ROI_HEADS:
        raise CellfeatError(
            f"MODEL.ROI_HEADS.NAME: {cfg.MODEL.ROI_HEADS.NAME!r} attaches no features; known: {' or '.join(ROI_HEADS)}"
        )
    converted = detectron2_cfg()
    add_cellfeat_config(converted)
    converted.merge_from_other_cfg(CfgNode(cfg))
    converted.MODEL.ROI_HEADS.NAME = "CellROIHeads"
    converted.MODEL.ROI_HEADS.POOL = pool
    converted.freeze()
    return converted
