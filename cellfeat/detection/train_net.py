"""Train or evaluate a detector with Detectron2's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from cellfeat.core.files import read_json, write_json
from cellfeat.detection import build_detector, choose_engine
from cellfeat.detection.coco_evaluation import Scores, evaluate_dataset
from cellfeat.detection.config import config_dir, load_config
from cellfeat.errors import CellfeatError


def train_net(
    config_file: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    eval_only: bool = False,
    num_gpus: int | None = None,
    engine: str = "auto",
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> dict[str, Scores]:
    """Train a detector in `OUTPUT_DIR`, or with `eval_only` evaluate `MODEL.WEIGHTS`.

    Args:
        config_file: A detector config: a path, or the name of one that comes with cellfeat.
        overrides: `KEY VALUE KEY VALUE ...`.
        resume: Go on from the last checkpoint in `OUTPUT_DIR`; without it, a folder that holds one is refused.
        eval_only: Evaluate on `DATASETS.TEST`; the scores go to `OUTPUT_DIR/evaluation.json`.
        num_gpus: 0 for the CPU, else GPUs of each machine; None for one process on what `MODEL.DEVICE` says.
        engine: As in `choose_engine`.
        num_machines: Machines that train together (Detectron2's engine).
        machine_rank: This machine's number among them.
        dist_url: Where they meet, tcp://HOST:PORT; "auto": a free port of this machine.

    Returns:
        Dataset → scores.

    Raises:
        CellfeatError: An unreadable config, a key that the engine cannot honour, missing data or weights.
    """
    cfg = load_config(find_config(config_file), [*overrides, *_device(num_gpus)])
    processes = Processes(num_gpus or 1, num_machines, machine_rank, dist_url)
    return evaluate(cfg, engine, processes) if eval_only else train(cfg, resume, engine, processes)


@dataclass(frozen=True)
class Processes:
    """How many processes train together; one a GPU. See `train_net`."""

    a_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


def train(
    cfg: CfgNode, resume: bool = False, engine: str = "auto", processes: Processes | None = None
) -> dict[str, Scores]:
    """Train as `cfg` says; see `train_net`."""
    processes = processes or Processes()
    last = Path(cfg.OUTPUT_DIR) / "last_checkpoint"
    if last.is_file() and not resume:
        raise CellfeatError(
            f"{cfg.OUTPUT_DIR}: holds a training run already; go on with --resume or choose another OUTPUT_DIR"
        )
    if choose_engine(engine) == "detectron2":
        return _launch(cfg, processes, resume=resume)
    if (number := processes.a_machine * processes.machines) > 1:
        raise CellfeatError(
            f"--num-gpus {processes.a_machine}: the torchvision engine trains on one device, not {number}; use 0 or 1"
        )
    from cellfeat.detection.torchvision_engine.trainer import Trainer

    trainer = Trainer(cfg)
    if resume:
        trainer.resume()
    return trainer.train()


def evaluate(cfg: CfgNode, engine: str = "auto", processes: Processes | None = None) -> dict[str, Scores]:
    """Evaluate `MODEL.WEIGHTS` on `DATASETS.TEST`; see `train_net`."""
    if not cfg.MODEL.WEIGHTS:
        raise CellfeatError("MODEL.WEIGHTS is empty: --eval-only needs a checkpoint to evaluate")
    if not cfg.DATASETS.TEST:
        raise CellfeatError("DATASETS.TEST is empty: --eval-only needs datasets to evaluate on")
    if choose_engine(engine) == "detectron2":
        return _launch(cfg, processes or Processes(), eval_only=True)
    detector = build_detector(cfg, "torchvision")
    scores = {name: evaluate_dataset(detector, name) for name in cfg.DATASETS.TEST}
    write_json(Path(cfg.OUTPUT_DIR) / "evaluation.json", scores)
    return scores


def find_config(name: str | Path) -> Path:
    """A config file by its path, or by its name among those that come with cellfeat."""
    path = Path(name)
    shipped = config_dir() / path.name
    return shipped if not path.is_file() and shipped.is_file() else path


def scores_table(scores: dict[str, Scores]) -> str:
    """Scores as lines for a terminal."""
    lines = [f"{'dataset':32} {'':5} {'AP':>6} {'AP50':>6} {'AP75':>6}"]
    for dataset, kinds in scores.items():
        for kind, values in kinds.items():
            lines.append(f"{dataset:32} {kind:5} {values['AP']:6.3f} {values['AP50']:6.3f} {values['AP75']:6.3f}")
    return "\n".join(lines)


def _launch(cfg: CfgNode, processes: Processes, resume: bool = False, eval_only: bool = False) -> dict[str, Scores]:
    """Detectron2's engine, in as many processes as asked for."""
    from cellfeat.detection.detectron2_engine.processes import launch_processes
    from cellfeat.detection.detectron2_engine.trainer import main

    _check_gpus(processes)
    launch_processes(
        main,
        processes.a_machine,
        *(cfg, resume, eval_only),
        num_machines=processes.machines,
        machine_rank=processes.machine_rank,
        dist_url=processes.dist_url,
    )
    scores = Path(cfg.OUTPUT_DIR) / "evaluation.json"
    return read_json(scores) if processes.machine_rank == 0 else {}


def _device(num_gpus: int | None) -> list[str]:
    return [] if num_gpus is None else ["MODEL.DEVICE", "cuda" if num_gpus else "cpu"]


def _check_gpus(processes: Processes) -> None:
    import torch

    if processes.a_machine > max(torch.cuda.device_count(), 1):
        raise CellfeatError(f"--num-gpus {processes.a_machine}: this machine has {torch.cuda.device_count()}")
    if processes.machines > 1 and processes.dist_url == "auto":
        raise CellfeatError("--dist-url: several machines need one tcp://HOST:PORT to meet at")
