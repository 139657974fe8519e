"""Detector training with Detectron2's conventions: OUTPUT_DIR, model_*.pth, last_checkpoint, metrics.json."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode

from cellfeat.core.files import write_json, write_text
from cellfeat.core.precision import usable
from cellfeat.core.progress import Progress
from cellfeat.core.tensors import read_torch, save_checkpoint
from cellfeat.core.tracking import track
from cellfeat.detection.classes import class_names
from cellfeat.detection.coco_evaluation import Scores, evaluate_dataset
from cellfeat.detection.device import autocast, resolve_device
from cellfeat.detection.run_folder import (
    BEST,
    DIVERGED,
    FINAL,
    MARKER,
    METRICS,
    SCORES,
    begin,
    discard_worthless_best,
    diverged,
    drop_replaced,
    last_checkpoint,
    mean_ap,
)
from cellfeat.detection.torchvision_engine.engine import TorchvisionDetector
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.detection.torchvision_engine.processes import in_step, mean_of_all, place, shared_number
from cellfeat.detection.torchvision_engine.solver import build_optimizer, clip_gradients, learning_rate
from cellfeat.detection.training_samples import training_loader
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

LOG_PERIOD = 20  # iterations, as Detectron2's writers


class Trainer:
    """Trains one detector in `cfg.OUTPUT_DIR`.

    The folder then holds config.yaml, metrics.json (JSON lines), model_final.pth, its name in last_checkpoint,
    model_best.pth (highest mean mask AP, or box AP without masks, over DATASETS.TEST) and evaluation.json, the scores
    of model_final.pth. On the way last_checkpoint names the newest model_*.pth.

    Several processes share every batch and end with the weights of one process, where the pictures have one size: what
    pads a smaller one depends on its neighbours. The first process evaluates and writes.
    """

    def __init__(self, cfg: CfgNode, data_root: Path | None = None) -> None:
        self.cfg, self.data_root = cfg, data_root
        self.output = Path(cfg.OUTPUT_DIR)
        self.seed = cfg.SEED if cfg.SEED >= 0 else shared_number(int.from_bytes(os.urandom(4), "little"))
        self.rank, self.world = place()
        torch.manual_seed(self.seed)  # the initial weights
        precision = usable("bf16" if cfg.SOLVER.AMP.ENABLED else "fp32", resolve_device(cfg.MODEL.DEVICE))
        self.detector = TorchvisionDetector(cfg, precision=precision)
        self.model = self.detector.model
        self.network = in_step(self.model)
        self.optimizer = build_optimizer(cfg, self.model)
        self.rate = learning_rate(cfg)
        self.iteration = 0  # iterations done
        self.best: float | None = None  # mean AP of model_best.pth

    def resume(self) -> None:
        """Go on from the last checkpoint in the output folder, if there is one.

        Raises:
            CellfeatError: The checkpoint is damaged or belongs to another config.
        """
        path = last_checkpoint(self.output)
        if path is None:
            return
        try:
            content = read_torch(path)
            self.model.load_state_dict(to_torchvision(content["model"]))
            self.optimizer.load_state_dict(content["optimizer"])
            self.iteration, self.seed, self.best = int(content["iteration"]), int(content["seed"]), content["best"]
        except Exception as error:  # a missing file, a damaged zip, other names, other shapes
            detail = " ".join(str(error).split())[:200]
            raise CellfeatError(
                f"{path}: cannot go on from this checkpoint ({detail}); train into another OUTPUT_DIR"
            ) from None

    def train(self) -> dict[str, Scores]:
        """Train to SOLVER.MAX_ITER, evaluate, and write model_final.pth.

        Returns:
            Dataset → scores on DATASETS.TEST; in processes other than the first, nothing.

        Raises:
            CellfeatError: The training diverged.
        """
        solver = self.cfg.SOLVER
        first = self.rank == 0
        if first:
            begin(self.cfg, self.iteration)
            log.info("%s: trains %d iterations on %s", self.output, solver.MAX_ITER, self.detector.device)
        loader = training_loader(self.cfg, self.seed, self.iteration, self.data_root, self.rank, self.world)
        running: dict[str, float] = {}
        self.model.train()
        bar = {"desc": "train", "unit": "it", "initial": self.iteration, "total": solver.MAX_ITER, "disable": not first}
        with Progress(**bar, announce=True) as progress:
            for batch in loader:
                losses = self._step(batch)
                self.iteration += 1
                progress.update()
                for name, value in losses.items():
                    running[name] = running.get(name, 0.0) + value
                if not first:
                    continue
                if self.iteration % LOG_PERIOD == 0:
                    mean = {name: value / LOG_PERIOD for name, value in running.items()}
                    running = {}
                    progress.set_postfix(loss=f"{mean['total_loss']:.3f}")
                    self._log(mean | {"lr": self.rate(self.iteration - 1)})
                last = self.iteration == solver.MAX_ITER
                if self.cfg.TEST.EVAL_PERIOD and self.iteration % self.cfg.TEST.EVAL_PERIOD == 0 and not last:
                    self._evaluate()
                if self.iteration % solver.CHECKPOINT_PERIOD == 0 and not last:
                    self._save_last(f"model_{self.iteration - 1:07d}.pth")
        if not first:
            return {}
        scores = self._evaluate()
        write_json(self.output / SCORES, scores)
        self._save_last(FINAL)
        return scores

    def _step(self, batch: list[Any]) -> dict[str, float]:
        # Anchors and boxes are sampled at random: seeded by the place of their image in the run, a resumed run draws as
        # an unbroken one, and several processes as one.
        number = self.seed + self.iteration * self.cfg.SOLVER.IMS_PER_BATCH + self.rank * len(batch)
        for sampler in (self.model.rpn.fg_bg_sampler, self.model.roi_heads.fg_bg_sampler):
            sampler.seeds = range(number, number + len(batch))
        device = self.detector.device
        images = [image.to(device) for image, _ in batch]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in batch]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.iteration) * group["lr_factor"]
        with autocast(device, self.detector.precision == "bf16"):
            losses = self.network(images, targets)
        total = sum(losses.values())
        means = mean_of_all(torch.stack([total, *losses.values()]).detach()).tolist()
        if not means[0] < DIVERGED:
            if self.rank == 0:
                discard_worthless_best(self.output, self.best)
            raise diverged(self.iteration, means[0])
        self.optimizer.zero_grad()
        total.backward()
        clip_gradients(self.cfg, self.model)
        self.optimizer.step()
        return dict(zip(("total_loss", *losses), means))

    def _evaluate(self) -> dict[str, Scores]:
        if not self.cfg.DATASETS.TEST:
            return {}
        self.model.eval()
        options: dict[str, Any] = {"masks": self.cfg.MODEL.MASK_ON, "data_root": self.data_root}
        options["classes"] = class_names(self.cfg)
        scores = {name: evaluate_dataset(self.detector, name, **options) for name in self.cfg.DATASETS.TEST}
        self.model.train()
        flat = {
            f"{name}/{kind}/{metric}": v
            for name, s in scores.items()
            for kind, m in s.items()
            for metric, v in m.items()
            if v is not None
        }
        self._log(flat)
        mean = mean_ap(scores)
        if mean is not None and (self.best is None or mean > self.best):
            self.best = mean
            self._save(BEST)
        return scores

    def _log(self, values: dict[str, float]) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        with open(self.output / METRICS, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"iteration": self.iteration - 1, **values}) + "\n")
        track(self.output, self.iteration - 1, values)

    def _save(self, name: str, **extra: Any) -> None:
        # Cloned: a tensor saved in channels_last would load in that layout everywhere.
        model = {name: value.contiguous() for name, value in to_detectron2(self.model.state_dict()).items()}
        save_checkpoint(self.output / name, {"model": model, "iteration": self.iteration, **extra})

    def _save_last(self, name: str) -> None:
        self._save(name, optimizer=self.optimizer.state_dict(), seed=self.seed, best=self.best)
        write_text(self.output / MARKER, name)
        drop_replaced(self.output)
