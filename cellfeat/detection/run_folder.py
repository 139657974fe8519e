"""What a training run leaves in OUTPUT_DIR under either engine, and whether a new run may go on there.

config.yaml is the record of the run, as it is for Detectron2, so that a folder in which Detectron2 itself trained can
be resumed. last_checkpoint names the checkpoint to resume from.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.core.files import write_text
from cellfeat.core.run_record import differences, different
from cellfeat.detection.coco_evaluation import Scores
from cellfeat.detection.config import flatten, load_config, portable
from cellfeat.detection.vgg import BACKBONE
from cellfeat.errors import CellfeatError

CONFIG, METRICS, MARKER, SCORES = "config.yaml", "metrics.json", "last_checkpoint", "evaluation.json"
BEST, FINAL = "model_best.pth", "model_final.pth"
RESUMABLE = re.compile(r"model_(\d{7}|final)\.pth")  # of these last_checkpoint names one
# What a resumed run must share with its first part. The solver, the test sets and the machine may change on the way.
LASTING = ("MODEL.", "INPUT.", "DATASETS.TRAIN", "SEED")
CHANGEABLE = ("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.WEIGHTS_SHA256", "MODEL.NEW_HEADS")

# The losses of a Mask R-CNN start below 10 and fall; SGD has not been seen to come back from this.
DIVERGED = 1e4

log = logging.getLogger(__name__)


def check_folder(cfg: CfgNode, resume: bool) -> bool:
    """Compare OUTPUT_DIR with a training that is asked for, without changing anything.

    A run that left no checkpoint is not worth keeping: the new one starts over.

    Returns:
        True if this very training is finished, False if it has to be done or resumed.

    Raises:
        CellfeatError: A run lies there and nobody asked to resume it, or it is finished and cannot be resumed.
        DifferentInputs: The run to resume has another network, other images or another seed.
    """
    folder = Path(cfg.OUTPUT_DIR)
    resumable, finished = last_checkpoint(folder) is not None, (folder / FINAL).is_file()
    if (resumable or finished) and not resume:
        raise CellfeatError(
            f"{folder}: holds a training run already", "resume it with --resume, or choose another OUTPUT_DIR"
        )
    if finished and not resumable:
        raise CellfeatError(
            f"{folder}: holds {FINAL} but no {MARKER}, so there is nothing to resume", "choose another OUTPUT_DIR"
        )
    if not resumable or not (before := _recorded(folder)):
        return False
    if changed := list(differences(lasting(before), lasting(cfg))):
        raise different(folder, changed)
    same = portable(before) == portable(cfg)
    return same and finished and (folder / SCORES).is_file() and last_checkpoint(folder) == folder / FINAL


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that last_checkpoint names, there or not; None where nothing names one.

    Raises:
        CellfeatError: It names no file of the folder: it is cut, or of something else.
    """
    if not (folder / MARKER).is_file():
        return None
    name = (folder / MARKER).read_bytes()[:1000].decode(errors="replace").strip()
    if not re.fullmatch(r"[\w.-]+\.pth", name):
        raise CellfeatError(
            f"{folder / MARKER}: names no checkpoint",
            "write the name of one that lies beside it into it, or choose another OUTPUT_DIR",
        )
    return folder / name


def begin(cfg: CfgNode, iteration: int) -> None:
    """Prepare OUTPUT_DIR for training on from `iteration`.

    config.yaml records the run; what was logged from `iteration` on is dropped, and so are the scores of a shorter run.
    """
    if iteration == 0:
        _warn_of_frozen_random_weights(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    (folder / SCORES).unlink(missing_ok=True)
    write_text(folder / CONFIG, cfg.dump())
    cut_metrics(folder / METRICS, iteration)


def drop_replaced(folder: Path) -> None:
    """Remove the checkpoints that the one in last_checkpoint replaces, also what a killed run had no time to remove."""
    kept = last_checkpoint(folder)
    for path in folder.iterdir():
        if kept is not None and RESUMABLE.fullmatch(path.name) and path != kept:
            path.unlink(missing_ok=True)


def diverged(iteration: int, loss: float) -> CellfeatError:
    """The error for a loss that is not finite or above `DIVERGED`."""
    return CellfeatError(
        f"training diverged at iteration {iteration} (loss {loss:.3g})",
        "lower SOLVER.BASE_LR, enable SOLVER.CLIP_GRADIENTS, or start from pretrained MODEL.WEIGHTS",
    )


def discard_worthless_best(folder: Path, ap: float | None) -> None:
    """After a training diverged: remove model_best.pth if the best model so far found nothing, AP 0."""
    if not ap or ap <= 0:
        (folder / BEST).unlink(missing_ok=True)
        if last_checkpoint(folder) == folder / BEST:
            (folder / MARKER).unlink()


def cut_metrics(path: Path, iteration: int) -> None:
    """Drop from metrics.json what a killed run logged from `iteration` on: it will be logged again.

    A kill in the middle of a line leaves a torn one, which is dropped too.

    Raises:
        CellfeatError: It is no file; a pipe would wait for a reader.
    """
    if path.exists() and not path.is_file():
        raise CellfeatError(f"{path}: a folder or a device, not a log", "remove it and run again")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _iteration(line, path) < iteration]
        write_text(path, "".join(f"{line}\n" for line in kept))


def mean_ap(scores: dict[str, Scores]) -> float | None:
    """What the best checkpoint is best in: mask AP, or box AP without masks, averaged over the test sets that have one.

    None where no test set has reference cells.
    """
    found = [kinds.get("segm", kinds["bbox"])["AP"] for kinds in scores.values()]
    measured = [ap for ap in found if ap is not None]
    return sum(measured) / len(measured) if measured else None


def lasting(cfg: CfgNode) -> dict[str, Any]:
    """The keys by name that say which network learns from which images."""
    leaves = flatten(cfg)
    plain = json.loads(json.dumps(leaves))  # a tuple that was written to YAML comes back as a list
    return {key: plain[key] for key in leaves if key.startswith(LASTING) and key not in CHANGEABLE}


def _warn_of_frozen_random_weights(cfg: CfgNode) -> None:
    """FrozenBN takes its statistics from pretrained weights; without them R101's loss passes 1e7 within an epoch."""
    if not cfg.MODEL.WEIGHTS and cfg.MODEL.BACKBONE.NAME == BACKBONE:
        log.warning(
            "MODEL.WEIGHTS is empty and VGG-16 has no norms: from random weights such a training hardly begins; "
            "give torchvision's ImageNet weights as MODEL.WEIGHTS"
        )
    elif not cfg.MODEL.WEIGHTS and cfg.MODEL.RESNETS.NORM == "FrozenBN":
        log.warning(
            "MODEL.WEIGHTS is empty and MODEL.RESNETS.NORM is FrozenBN: from random weights such a training diverges; "
            "give ImageNet weights as MODEL.WEIGHTS, or set MODEL.RESNETS.NORM GN, MODEL.FPN.NORM GN and "
            "MODEL.BACKBONE.FREEZE_AT 0, as wbc_mask_rcnn_R_18_FPN_tiny.yaml does"
        )


def _recorded(folder: Path) -> CfgNode | None:
    """The config that the run in `folder` was started with, None where it left none that can be read."""
    try:
        return load_config(folder / CONFIG) if (folder / CONFIG).is_file() else None
    except CellfeatError as error:
        log.warning("%s; resumed without comparing the configs", error)
        return None


def _iteration(line: str, path: Path) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        log.warning("%s: dropped a line that is not whole: %s", path, line[:60])
        return float("inf")
