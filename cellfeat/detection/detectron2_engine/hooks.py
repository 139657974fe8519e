"""What cellfeat adds to Detectron2's training loop: the best checkpoint, validation losses, TensorBoard pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventWriter, get_event_storage
from detectron2.utils.visualizer import Visualizer
from torch import nn

from cellfeat.core.tracking import track
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.detection.classes import class_names
from cellfeat.detection.detector import Detector
from cellfeat.detection.detectron2_engine.datasets import reference_cells
from cellfeat.detection.training_samples import Sample, TrainingSamples

PICTURES = 4  # of each test set


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's, which forgets on resume how good the best checkpoint was; this one remembers."""

    def state_dict(self) -> dict[str, Any]:
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_metric, self.best_iter = state["best_metric"], state["best_iter"]


class Tracked(EventWriter):
    """Hands the newest value of each logged number to `cellfeat.core.tracking`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.last = folder, -1

    def write(self) -> None:
        latest = get_event_storage().latest()
        fresh = {name: value for name, (value, iteration) in latest.items() if iteration > self.last}
        if fresh:
            self.last = max(iteration for _, iteration in latest.values())
            track(self.folder, self.last, fresh)


class PeriodicHook(HookBase, ABC):
    """Does something every `period` iterations and after the last, where Detectron2's EvalHook evaluates."""

    def __init__(self, period: int) -> None:
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period and done % self.period == 0):
            self.act()

    @abstractmethod
    def act(self) -> None: ...


class ValidationLoss(PeriodicHook):
    """Logs `validation/loss_*`: the training losses, averaged over the masked images of DATASETS.TEST, unaugmented."""

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        collate: Callable[[list[Sample]], list[dict[str, Any]]],
        data_root: Path | None = None,
    ) -> None:
        super().__init__(cfg.TEST.EVAL_PERIOD)
        self.model, self.collate = model, collate
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TRAIN = tuple(name for name in cfg.DATASETS.TEST if _serves_losses(name))
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST
        cfg.INPUT.RANDOM_FLIP = "none"
        cfg.INPUT.AUG = CfgNode({key: type(value)(0) for key, value in cfg.INPUT.AUG.items()})
        self.samples = TrainingSamples(cfg, 0, data_root) if cfg.DATASETS.TRAIN else None

    @torch.no_grad()
    def act(self) -> None:
        if self.samples is None:
            return
        torch.manual_seed(0)  # of the sampled anchors and boxes
        norms = [module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        training = [norm.training for norm in norms]
        for norm in norms:  # validation must not move their statistics
            norm.eval()
        total: dict[str, float] = {}
        count = len(self.samples.images)
        for i in range(count):
            for name, value in self.model(self.collate([self.samples[i]])).items():
                total[name] = total.get(name, 0.0) + value.item() / count
        for norm, mode in zip(norms, training, strict=True):
            norm.train(mode)
        values = {f"validation/{name}": value for name, value in total.items()}
        self.trainer.storage.put_scalars(**values, smoothing_hint=False)


def _serves_losses(name: str) -> bool:
    """Whether a test set has cells, all of them with masks, as the training losses need."""
    cells = reference_cells(name)
    return bool(cells) and all("segmentation" in cell for cell in cells)


class PredictedMasks(PeriodicHook):
    """Puts the first images of each test set, with the predicted masks and boxes, before TensorBoard."""

    def __init__(self, cfg: CfgNode, detector: Callable[[], Detector], data_root: Path | None = None) -> None:
        super().__init__(cfg.TEST.EVAL_PERIOD)
        self.names, self.detector, self.data_root = cfg.DATASETS.TEST, detector, data_root
        self.classes = class_names(cfg)

    def act(self) -> None:
        detector, names = self.detector(), self.classes
        for name in self.names:
            records = open_dataset(name, self.data_root).records()[:PICTURES]
            images = [read_rgb(record.path, bits=record.bits) for record in records]
            found = detector.detect(images, [record.um_per_px for record in records])
            for i, (image, cells) in enumerate(zip(images, found, strict=True)):
                drawn = Visualizer(image).overlay_instances(
                    boxes=cells.boxes,
                    masks=cells.masks if len(cells.masks) else None,
                    labels=[f"{names[k]} {score:.2f}" for k, score in zip(cells.classes, cells.scores, strict=True)],
                )
                self.trainer.storage.put_image(f"{name}/{i}", drawn.get_image().transpose(2, 0, 1))
        detector.model.train()  # type: ignore[attr-defined]
