"""From a config to the detector that it describes, by the engine that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellfeat.detection.detector import ENGINES, POOLS, PRECISIONS, Detector
from cellfeat.errors import CellfeatError, MissingRequirement

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode


def build_detector(cfg: CfgNode, engine: str = "auto", pool: str = "mask", precision: str = "fp32") -> Detector:
    """Build the detector that a config describes.

    Args:
        cfg: From `cellfeat.detection.config.load_config`.
        engine: As in `choose_engine`.
        pool: ROI features to keep: "mask" (C, 14, 14), "box" (C, 7, 7) or "box_head" (FC_DIM, 1, 1).
        precision: "fp32" or "bf16".

    Raises:
        CellfeatError: An unknown engine, pool or precision; a config key or a checkpoint that the engine refuses.
    """
    _check_choice("pool", pool, POOLS)
    _check_choice("precision", precision, PRECISIONS)
    from cellfeat.detection.fold_batchnorm import to_bf16_inference

    detector: Any
    if choose_engine(engine) == "detectron2":
        from cellfeat.detection.detectron2_engine.engine import Detectron2Detector

        detector = Detectron2Detector(cfg, pool=pool, precision=precision)
    else:
        from cellfeat.detection.torchvision_engine.engine import TorchvisionDetector

        detector = TorchvisionDetector(cfg, pool=pool, precision=precision)
    if precision == "bf16":
        to_bf16_inference(detector.model)
    return detector


def choose_engine(engine: str = "auto") -> str:
    """The engine that runs: "detectron2" or "torchvision"; "auto" is Detectron2 where it can be imported.

    Raises:
        CellfeatError: An unknown engine.
        MissingRequirement: "detectron2", where it cannot be imported.
    """
    _check_choice("engine", engine, ENGINES)
    if engine == "torchvision":
        return engine
    problem = detectron2_problem()
    if engine == "detectron2" and problem:
        raise MissingRequirement(f"engine detectron2: {problem}", "`cellfeat doctor` says how to install it")
    return "torchvision" if problem else "detectron2"


def detectron2_problem() -> str:
    """Why Detectron2 cannot be used here; empty where it can."""
    try:
        import detectron2.engine
        import detectron2.modeling  # noqa: F401
    except Exception as error:  # not installed, or broken: built for another torch, a dependency missing
        return f"Detectron2 cannot be imported ({' '.join(str(error).split())[:200]})"
    return ""


def _check_choice(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise CellfeatError(f"{kind} {value!r}: choose from {', '.join(known)}")
