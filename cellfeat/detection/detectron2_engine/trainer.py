"""Detectron2's trainer on cellfeat's samples: a run that was killed ends as one that was not."""

from __future__ import annotations

import time
import weakref
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, SimpleTrainer, TrainerBase, create_ddp_model, default_setup, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils import comm
from fvcore.common.config import CfgNode as PlainCfgNode
from torch import nn
from torch.utils.data import DataLoader

from cellfeat.core.files import write_json, write_text
from cellfeat.core.tensors import read_torch
from cellfeat.detection.coco_evaluation import Scores
from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
from cellfeat.detection.detectron2_engine.datasets import register_datasets
from cellfeat.detection.detectron2_engine.engine import Detectron2Detector, new_model
from cellfeat.detection.detectron2_engine.evaluation import coco_evaluator, test_loader, to_scores
from cellfeat.detection.detectron2_engine.hooks import BestCheckpointer, PredictedMasks, ValidationLoss
from cellfeat.detection.device import autocast
from cellfeat.detection.run_folder import cut_metrics, mean_ap, write_config
from cellfeat.detection.training_data import Sample, TrainingSamples
from cellfeat.errors import CellfeatError


def main(cfg: PlainCfgNode, resume: bool, eval_only: bool) -> None:
    """Train or evaluate in this process, one of those that Detectron2's `launch` made; results are in OUTPUT_DIR.

    Raises:
        CellfeatError: The training diverged, data are missing, or the checkpoint to resume from does not fit.
    """
    register_datasets([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    theirs = to_detectron2_cfg(cfg)
    default_setup(theirs, Namespace(resume=resume, eval_only=eval_only))
    if comm.is_main_process():
        write_config(cfg)
    scores = Trainer.test(theirs, new_model(theirs)) if eval_only else _train(theirs, resume)
    if comm.is_main_process():
        write_json(Path(cfg.OUTPUT_DIR) / "evaluation.json", scores)


def _train(cfg: CfgNode, resume: bool) -> dict[str, Scores]:
    output = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        last = output / "last_checkpoint"
        if resume and last.is_file():
            cut_metrics(output / "metrics.json", _iterations_done(output / last.read_text().strip()))
    comm.synchronize()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    try:
        trainer.train()
    except FloatingPointError as error:
        raise CellfeatError(
            f"training diverged at iteration {trainer.iter} ({' '.join(str(error).split())[:100]}): "
            "lower SOLVER.BASE_LR or enable SOLVER.CLIP_GRADIENTS"
        ) from None
    return trainer.scores


class Trainer(DefaultTrainer):
    """DefaultTrainer with cellfeat's samples, COCOEvaluator on each of DATASETS.TEST, and bf16 for SOLVER.AMP.

    Sample i and the chances of iteration k depend on the seed alone, so that resuming repeats nothing and skips
    nothing. Scores are fractions of 1, as those of `cellfeat.detection.coco_evaluation`.
    """

    _trainer: SeededTrainer
    checkpointer: Any

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's own takes AMPTrainer, which knows fp16 on CUDA alone, and a GPU for each of several ranks.
        TrainerBase.__init__(self)
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
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
        return {name: to_scores(result) for name, result in results.items() if result}

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
        self._trainer.reset_data_loader(lambda: training_loader(self.cfg, self.seed, self.start_iter))

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
                ValidationLoss(cfg, self._bare_model(), to_detectron2_batch),
                PredictedMasks(cfg, lambda: Detectron2Detector(cfg, model=self._bare_model())),
            ]
        every.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=1))
        return [*every, hooks.PeriodicWriter(self.build_writers(), period=20)]

    def _evaluate(self) -> dict[str, Any]:
        self.scores = self.test(self.cfg, self._trainer.model)
        return {**self.scores, "mean": {"AP": mean_ap(self.scores)}} if self.scores else {}

    def _bare_model(self) -> nn.Module:
        model: Any = self._trainer.model
        return getattr(model, "module", model)  # out of DistributedDataParallel

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        super().load_state_dict(state)


class SeededTrainer(SimpleTrainer):
    """SimpleTrainer whose chances (sampled anchors and boxes) depend on seed, iteration and rank; bf16 if asked."""

    seed = 0

    def __init__(self, model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, bf16: bool) -> None:
        super().__init__(model, loader, optimizer)
        self.bf16 = bf16

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        waited = time.perf_counter() - start
        # After the batch: a loader that has just been made draws a number of its own.
        torch.manual_seed(self.seed + self.iter * comm.get_world_size() + comm.get_rank())
        with autocast(next(self.model.parameters()).device, self.bf16):
            losses = self.model(batch)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, waited)
        self.optimizer.step()


class Checkpointer(DetectionCheckpointer):
    """Detectron2's, that runs no code of the file whichever torch is installed, and names the last one in one go."""

    def _torch_load(self, f: str) -> Any:
        return read_torch(Path(f))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        # Detectron2 truncates and writes: killed in between, the run could not go on.
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)


def training_loader(cfg: CfgNode, seed: int, first_iteration: int) -> DataLoader[list[Sample]]:
    """This rank's share of each batch of IMS_PER_BATCH samples, from `first_iteration` on, as Detectron2's dicts."""
    world, rank, batch = comm.get_world_size(), comm.get_rank(), cfg.SOLVER.IMS_PER_BATCH
    if batch % world:
        raise CellfeatError(f"SOLVER.IMS_PER_BATCH: {batch} images cannot be shared by {world} processes")
    share = batch // world
    samples = TrainingSamples(cfg, seed)
    starts = range(first_iteration * batch, len(samples), batch)
    return DataLoader(
        samples,  # type: ignore[arg-type]  # batches are lists of dicts
        batch_sampler=[list(range(start + rank * share, start + (rank + 1) * share)) for start in starts],
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=to_detectron2_batch,
    )


def to_detectron2_batch(samples: list[Sample]) -> list[dict[str, Any]]:
    """Samples as Detectron2's models take them: "image" and, with boxes, classes and bitmasks, "instances"."""
    batch = []
    for image, target in samples:
        truth = Instances(tuple(image.shape[-2:]))
        truth.gt_boxes, truth.gt_classes = Boxes(target["boxes"]), target["labels"] - 1
        truth.gt_masks = BitMasks(target["masks"].bool())
        batch.append({"image": image, "instances": truth})
    return batch


def _iterations_done(checkpoint: Path) -> int:
    try:
        return read_torch(checkpoint)["iteration"] + 1
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise CellfeatError(
            f"{checkpoint}: cannot go on from this checkpoint ({detail}); train into another OUTPUT_DIR"
        ) from None
