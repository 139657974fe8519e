"""Detectron2's trainer on cellfeat's samples: a run that was killed ends as one that was not."""

from __future__ import annotations

import math
import time
import weakref
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from fvcore.common.config import CfgNode as PlainCfgNode
from torch import nn
from torch.utils.data import DataLoader

from cellfeat.core.files import write_json
from cellfeat.core.precision import usable
from cellfeat.core.tensors import read_torch
from cellfeat.detection.classes import class_names
from cellfeat.detection.coco_evaluation import METRICS, Scores
from cellfeat.detection.detectron2_engine.checkpointer import Checkpointer
from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
from cellfeat.detection.detectron2_engine.datasets import reference_cells, register_datasets
from cellfeat.detection.detectron2_engine.engine import Detectron2Detector, new_model
from cellfeat.detection.detectron2_engine.evaluation import coco_evaluator, test_loader, to_scores
from cellfeat.detection.detectron2_engine.hooks import BestCheckpointer, PredictedMasks, Tracked, ValidationLoss
from cellfeat.detection.detectron2_engine.training_loader import to_detectron2_batch
from cellfeat.detection.device import autocast
from cellfeat.detection.run_folder import (
    DIVERGED,
    SCORES,
    begin,
    discard_worthless_best,
    diverged,
    last_checkpoint,
    mean_ap,
)
from cellfeat.detection.training_samples import training_loader
from cellfeat.errors import CellfeatError


def main(cfg: PlainCfgNode, resume: bool, eval_only: bool, data_root: Path | None = None) -> None:
    """Train or evaluate in this process, one of those that Detectron2's `launch` made; results are in OUTPUT_DIR.

    Raises:
        CellfeatError: The training diverged, data are missing, or the checkpoint to resume from does not fit.
    """
    register_datasets([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], data_root, class_names(cfg))
    theirs = to_detectron2_cfg(cfg)
    _set_up(theirs)
    if eval_only:
        scores = Trainer.test(theirs, new_model(theirs))
    else:
        if comm.is_main_process():
            begin(cfg, _iterations_done(Path(cfg.OUTPUT_DIR)) if resume else 0)
        comm.synchronize()
        scores = _train(theirs, resume, data_root)
    if comm.is_main_process():
        write_json(Path(cfg.OUTPUT_DIR) / SCORES, scores)


def _set_up(cfg: CfgNode) -> None:
    """As Detectron2's default_setup, which would also write config.yaml: over ours, and not in one go."""
    rank = comm.get_rank()
    if comm.is_main_process():
        Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    for name in ("fvcore", "detectron2"):
        logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name)
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Running with full config:\n%s", cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)


def _train(cfg: CfgNode, resume: bool, data_root: Path | None) -> dict[str, Scores]:
    trainer = Trainer(cfg, data_root)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer.scores


class Trainer(DefaultTrainer):
    """DefaultTrainer with cellfeat's samples, COCOEvaluator on each of DATASETS.TEST, and bf16 for SOLVER.AMP.

    Sample i and the random draws of iteration k depend on the seed alone, so that resuming repeats nothing and skips
    nothing. Scores are fractions of 1, as those of `cellfeat.detection.coco_evaluation`.
    """

    _trainer: SeededTrainer
    checkpointer: Any
    _hooks: list[Any]

    def __init__(self, cfg: CfgNode, data_root: Path | None = None) -> None:
        # DefaultTrainer's own takes AMPTrainer, which knows fp16 on CUDA alone, and a GPU for each of several ranks.
        TrainerBase.__init__(self)
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.data_root = data_root
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self.scores: dict[str, Scores] = {}
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        devices = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
        model = create_ddp_model(model, broadcast_buffers=False, device_ids=devices)
        # `resume_or_load` makes the loader: it depends on where training starts.
        self._trainer = SeededTrainer(model, [], optimizer, cfg.SOLVER.AMP.ENABLED)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return new_model(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return coco_evaluator(cfg, dataset_name)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader[Any]:
        return test_loader(cfg, dataset_name)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict[str, Scores]:
        """As DefaultTrainer.test: dataset → scores, also where there is one dataset; empty on ranks other than 0."""
        results = super().test(cfg, model, evaluators)
        if len(cfg.DATASETS.TEST) == 1:
            results = {cfg.DATASETS.TEST[0]: results}
        if not comm.is_main_process():
            return {}
        kinds = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
        none: Scores = {kind: dict.fromkeys(METRICS, None) for kind in kinds}  # where COCOEvaluator gives nothing
        return {name: to_scores(result) if reference_cells(name) else none for name, result in results.items()}

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR if asked to; `new_model` has loaded MODEL.WEIGHTS already."""
        if resume and self.checkpointer.has_checkpoint():
            path = self.checkpointer.get_checkpoint_file()
            try:
                self.checkpointer.load(path)
            except Exception as error:  # a missing file, a damaged zip, other names, other shapes
                detail = " ".join(str(error).split())[:200]
                raise CellfeatError(
                    f"{path}: cannot go on from this checkpoint ({detail}); train into another OUTPUT_DIR"
                ) from None
            self.start_iter = self.iter + 1
        self._trainer.seed = self.seed
        place = comm.get_rank(), comm.get_world_size()
        self._trainer.reset_data_loader(
            lambda: training_loader(self.cfg, self.seed, self.start_iter, self.data_root, *place, to_detectron2_batch)
        )

    def build_hooks(self) -> list[hooks.HookBase | None]:
        cfg, main = self.cfg, comm.is_main_process()
        tested = bool(cfg.DATASETS.TEST)
        every = [hooks.IterationTimer(), hooks.LRScheduler()]
        if tested:
            every.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if not main:
            return every
        if tested:
            every += [
                BestCheckpointer(cfg.TEST.EVAL_PERIOD, self.checkpointer, "mean/AP"),
                ValidationLoss(cfg, self._bare_model(), to_detectron2_batch, self.data_root),
                PredictedMasks(cfg, lambda: Detectron2Detector(cfg, model=self._bare_model()), self.data_root),
            ]
        every.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=1))
        writers = [*self.build_writers(), Tracked(Path(cfg.OUTPUT_DIR))]
        return [*every, hooks.PeriodicWriter(writers, period=20)]

    def _evaluate(self) -> dict[str, Any]:
        self.scores = self.test(self.cfg, self._trainer.model)
        mean = mean_ap(self.scores)
        logged: dict[str, Any] = {**self.scores, **({} if mean is None else {"mean": {"AP": mean}})}
        return {name: _measured(kinds) for name, kinds in logged.items()}

    def _bare_model(self) -> nn.Module:
        model: Any = self._trainer.model
        return getattr(model, "module", model)  # out of DistributedDataParallel

    def run_step(self) -> None:
        try:
            super().run_step()
        except FloatingPointError:  # of SimpleTrainer: a loss that is not finite
            self._give_up()
            raise diverged(self.iter, math.nan) from None
        except CellfeatError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """No evaluation and no checkpoint after a training that failed, be it in its last iteration."""
        best = [hook.best_metric for hook in self._hooks if isinstance(hook, BestCheckpointer)]
        if best:
            discard_worthless_best(Path(self.cfg.OUTPUT_DIR), best[0])
        self._hooks = [hook for hook in self._hooks if isinstance(hook, hooks.PeriodicWriter)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        super().load_state_dict(state)


class SeededTrainer(SimpleTrainer):
    """SimpleTrainer whose sampled anchors and boxes depend on seed, iteration and rank alone; bf16 if asked."""

    seed = 0

    def __init__(self, model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, bf16: bool) -> None:
        super().__init__(model, loader, optimizer)
        self.bf16 = bf16 and usable("bf16", next(model.parameters()).device) == "bf16"

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        waited = time.perf_counter() - start
        # After the batch: a loader that has just been made draws a number of its own.
        torch.manual_seed(self.seed + self.iter * comm.get_world_size() + comm.get_rank())
        with autocast(next(self.model.parameters()).device, self.bf16):
            losses = self.model(batch)
        total = sum(losses.values())
        if total.item() >= DIVERGED:
            raise diverged(self.iter, total.item())
        self.optimizer.zero_grad()
        total.backward()
        self.after_backward()
        self._write_metrics(losses, waited)
        self.optimizer.step()


def _measured(scores: dict[str, Any]) -> dict[str, Any]:
    """Nested scores without those that are None: EvalHook logs numbers only."""
    nested = {key: _measured(value) if isinstance(value, dict) else value for key, value in scores.items()}
    return {key: value for key, value in nested.items() if value is not None}


def _iterations_done(output: Path) -> int:
    """Iterations up to the last checkpoint in the output folder, 0 if there is none."""
    checkpoint = last_checkpoint(output)
    if checkpoint is None:
        return 0
    try:
        return read_torch(checkpoint)["iteration"] + 1
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise CellfeatError(
            f"{checkpoint}: cannot go on from this checkpoint ({detail}); train into another OUTPUT_DIR"
        ) from None
