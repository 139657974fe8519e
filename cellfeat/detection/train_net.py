"""Train or evaluate a detector with Detectron2's arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from cellfeat.core.files import as_written, read_json, write_json
from cellfeat.core.lock import FolderLock
from cellfeat.core.processes import is_first_process
from cellfeat.data.cards import MODEL_CARD, ModelCard, write_model_card
from cellfeat.detection.build import build_detector, choose_engine
from cellfeat.detection.checkpoint_config import config_of_checkpoint
from cellfeat.detection.classes import class_names, reference_coco, with_classes
from cellfeat.detection.coco_evaluation import METRICS, Scores, evaluate_dataset
from cellfeat.detection.config import find_config, load_config
from cellfeat.detection.device import resolve_device
from cellfeat.detection.run_folder import FINAL, SCORES, check_folder, drop_replaced
from cellfeat.errors import CellfeatError


def train_net(
    config_file: Path | None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    eval_only: bool = False,
    num_gpus: int | None = None,
    engine: str = "auto",
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    data_root: Path | None = None,
) -> dict[str, Scores]:
    """Train a detector in `OUTPUT_DIR`, or with `eval_only` evaluate `MODEL.WEIGHTS`.

    Args:
        config_file: A detector config: a path, or the name of one that comes with cellfeat. None: with `eval_only` the
            config.yaml beside MODEL.WEIGHTS, else that of the paper's detector.
        overrides: `KEY VALUE KEY VALUE ...`.
        resume: Go on from the last checkpoint in `OUTPUT_DIR`; without it, a folder that holds one is refused.
        eval_only: Evaluate on `DATASETS.TEST`; the scores go to `OUTPUT_DIR/evaluation.json`.
        num_gpus: 0 for the CPU, else GPUs of each machine; None for one process on what `MODEL.DEVICE` says.
        engine: As in `choose_engine`.
        num_machines: Machines that train together (Detectron2's engine).
        machine_rank: This machine's number among them.
        dist_url: Where they meet, tcp://HOST:PORT; "auto": a free port of this machine.
        data_root: The folder that holds the datasets; None: as `cellfeat.data.catalogue.data_root` says.

    Returns:
        Dataset → scores.

    Raises:
        Busy: Another process trains in `OUTPUT_DIR`.
        CellfeatError: An unreadable config, a key that the engine does not support, missing data or weights.
    """
    given = [*overrides, *_device(num_gpus)]
    cfg = config_of_checkpoint(config_file, given) if eval_only else load_config(find_config(config_file), given)
    processes = Processes(num_gpus or 1, num_machines, machine_rank, dist_url)
    with FolderLock(Path(cfg.OUTPUT_DIR)) if machine_rank == 0 and is_first_process() else nullcontext():
        if eval_only:
            return evaluate(cfg, engine, processes, data_root)
        return train(cfg, resume, engine, processes, data_root)


@dataclass(frozen=True)
class Processes:
    """How many processes train together; one a GPU. See `train_net`."""

    a_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


def train(
    cfg: CfgNode,
    resume: bool = False,
    engine: str = "auto",
    processes: Processes | None = None,
    data_root: Path | None = None,
) -> dict[str, Scores]:
    """Train as `cfg` says; see `train_net`."""
    processes = processes or Processes()
    cfg = with_classes(cfg, cfg.DATASETS.TRAIN, data_root)
    if processes.machine_rank == 0 and check_folder(cfg, resume):
        with as_written(Path(cfg.OUTPUT_DIR) / SCORES, "remove it and resume: it is measured again"):
            scores = read_json(Path(cfg.OUTPUT_DIR) / SCORES)
            scores_table(scores)
            if set(scores) != set(cfg.DATASETS.TEST):
                raise ValueError(f"scores of {', '.join(scores) or 'nothing'}")
        if is_first_process() and not (Path(cfg.OUTPUT_DIR) / MODEL_CARD).exists():  # killed just before its end
            if (chosen := choose_engine(engine)) == "torchvision":
                drop_replaced(Path(cfg.OUTPUT_DIR))
            _write_card(cfg, chosen, scores, data_root)
        return scores
    for name in cfg.DATASETS.TEST:  # what cannot be evaluated is said now, not after hours of training
        reference_coco(name, class_names(cfg), data_root)
    if choose_engine(engine) == "detectron2":
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise CellfeatError(
                "torchrun starts processes of the torchvision engine alone",
                "give --engine torchvision, or --num-gpus in place of torchrun",
            )
        scores = _launch(cfg, processes, data_root, resume=resume)
        if processes.machine_rank == 0:
            _write_card(cfg, "detectron2", scores, data_root)
        return scores
    if (number := processes.a_machine * processes.machines) > 1:
        raise CellfeatError(
            f"--num-gpus {processes.a_machine}: the torchvision engine trains on one device, not {number}",
            "use 0 or 1, or start its processes by torchrun",
        )
    from cellfeat.detection.torchvision_engine.processes import together
    from cellfeat.detection.torchvision_engine.training_loop import Trainer

    with together(resolve_device(cfg.MODEL.DEVICE)):
        trainer = Trainer(cfg, data_root)
        if resume:
            trainer.resume()
        scores = trainer.train()
    if is_first_process():
        _write_card(cfg, "torchvision", scores, data_root)
    return scores


def evaluate(
    cfg: CfgNode, engine: str = "auto", processes: Processes | None = None, data_root: Path | None = None
) -> dict[str, Scores]:
    """Evaluate `MODEL.WEIGHTS` on `DATASETS.TEST`; see `train_net`."""
    if not cfg.MODEL.WEIGHTS:
        raise CellfeatError("MODEL.WEIGHTS is empty: --eval-only needs a checkpoint to evaluate")
    if not cfg.DATASETS.TEST:
        raise CellfeatError("DATASETS.TEST is empty: --eval-only needs datasets to evaluate on")
    cfg = with_classes(cfg, cfg.DATASETS.TEST, data_root)
    if choose_engine(engine) == "detectron2":
        return _launch(cfg, processes or Processes(), data_root, eval_only=True)
    detector = build_detector(cfg, "torchvision")
    options: dict[str, Any] = {"masks": cfg.MODEL.MASK_ON, "data_root": data_root, "classes": class_names(cfg)}
    scores = {name: evaluate_dataset(detector, name, **options) for name in cfg.DATASETS.TEST}
    write_json(Path(cfg.OUTPUT_DIR) / SCORES, scores)
    return scores


def _write_card(cfg: CfgNode, engine: str, scores: dict[str, Scores], data_root: Path | None) -> None:
    classes = class_names(cfg)
    metrics = [
        (dataset, f"{kind}_{name}", float(value))
        for dataset, kinds in scores.items()
        for kind, values in kinds.items()
        for name, value in values.items()
        if value is not None
    ]
    card = ModelCard(
        "Mask R-CNN of white blood cells" if cfg.MODEL.MASK_ON else "Faster R-CNN of white blood cells",
        f"`{FINAL}` has Detectron2's parameter names; config.yaml is its config. "
        f"`cellfeat dump IMAGES --weights {FINAL}` finds cells with it.",
        "object-detection",
        list(cfg.DATASETS.TRAIN),
        {key: cfg[key] for key in ("INPUT", "SOLVER", "SEED")},
        {"engine": engine, "started from": cfg.MODEL.WEIGHTS or "random weights", "classes": ", ".join(classes)},
        metrics,
        ["It knows cells of the sizes, magnifications and densities of its training images."],
    )
    write_model_card(Path(cfg.OUTPUT_DIR), card, data_root)


def scores_table(scores: dict[str, Scores]) -> str:
    """Scores as lines for a terminal."""
    lines = [f"{'dataset':32} {'':5} {'AP':>6} {'AP50':>6} {'AP75':>6}"]
    for dataset, kinds in scores.items():
        for kind, values in kinds.items():
            shown = ["     -" if values[name] is None else f"{values[name]:6.3f}" for name in METRICS]
            lines.append(f"{dataset:32} {kind:5} {' '.join(shown)}")
            for name, value in values.items():
                if name not in METRICS:  # AP-<class>
                    shown_ap = "     -" if value is None else f"{value:6.3f}"
                    lines.append(f"  {name.removeprefix('AP-'):30} {kind:5} {shown_ap}")
    if empty := [dataset for dataset, kinds in scores.items() if kinds["bbox"]["AP"] is None]:
        lines.append(f"{', '.join(empty)}: no reference cells, no AP")
    return "\n".join(lines)


def _launch(
    cfg: CfgNode, processes: Processes, data_root: Path | None, resume: bool = False, eval_only: bool = False
) -> dict[str, Scores]:
    """Detectron2's engine, in as many processes as asked for."""
    from cellfeat.detection.detectron2_engine.processes import launch_processes
    from cellfeat.detection.detectron2_engine.seeded_trainer import main

    _check_gpus(processes)
    launch_processes(
        main,
        processes.a_machine,
        *(cfg, resume, eval_only, data_root),
        num_machines=processes.machines,
        machine_rank=processes.machine_rank,
        dist_url=processes.dist_url,
    )
    return read_json(Path(cfg.OUTPUT_DIR) / SCORES) if processes.machine_rank == 0 else {}


def _device(num_gpus: int | None) -> list[str]:
    return [] if num_gpus is None else ["MODEL.DEVICE", "cuda" if num_gpus else "cpu"]


def _check_gpus(processes: Processes) -> None:
    import torch

    if processes.a_machine > max(torch.cuda.device_count(), 1):
        raise CellfeatError(f"--num-gpus {processes.a_machine}: this machine has {torch.cuda.device_count()}")
    if processes.machines > 1 and processes.dist_url == "auto":
        raise CellfeatError("--dist-url: several machines need one tcp://HOST:PORT to meet at")
