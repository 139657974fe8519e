"""Detectron2 itself as the engine: its config tree, a registered ROI head, its trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellfeat.detection.detectron2_engine.config import add_cellfeat_config as add_cellfeat_config
    from cellfeat.detection.detectron2_engine.roi_heads import CellROIHeads as CellROIHeads


def __getattr__(name: str) -> Any:
    """Import on use: the modules below need Detectron2."""
    if name == "add_cellfeat_config":
        from cellfeat.detection.detectron2_engine.config import add_cellfeat_config

        return add_cellfeat_config
    if name == "CellROIHeads":
        from cellfeat.detection.detectron2_engine.roi_heads import CellROIHeads

        return CellROIHeads
    raise AttributeError(name)
