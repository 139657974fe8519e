"""Supervised networks: the upper bound that labels of a domain allow, and the Leukopy article's transfer learning."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from cellfeat.core.files import write_text
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.tensors import best_device
from cellfeat.data.split import stratified_split
from cellfeat.errors import MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.augmentation import transfer_learning
from cellfeat.methods.backbones import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    convolutions,
    freeze_below_last_block,
    headless,
)
from cellfeat.methods.classifier import (
    METRICS,
    MODEL,
    ClassifierModule,
    class_weights,
    load_classifier,
    numbered_labels,
    outputs,
    save_classifier,
    train,
    weighted_cross_entropy,
)
from cellfeat.methods.crops import CropBatch, CropDataset, CropSampler, Masked, Normalisation, unknown_labels
from cellfeat.methods.hub import local_weights

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

log = logging.getLogger(__name__)

DENSE, DROPOUT = (1024, 512), 0.2  # the Leukopy article's; it states the rate of the first dropout alone
STEPS = ("step1", "step2")  # folders of a training that has two, each with its checkpoints


class SupervisedConfig(BaseModel):
    """Settings of `ResNeXt` and `Finetune`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("resnext50_32x4d", description="Network of torchvision.")
    weights: str | None = Field(
        None,
        description="Local file with its ImageNet weights; None starts from scratch, and then all of it is trained.",
    )
    sha256: str | None = Field(None, description="Digest that the file must have.")
    pretrained: bool = Field(
        False,
        description=(
            "Without `weights`: start from torchvision's ImageNet weights, downloaded once and checked against the "
            "digest in their name."
        ),
    )
    head: Literal["linear", "dense"] = Field(
        "linear",
        description=(
            "What follows the network: 'linear', one layer in place of its last; or 'dense', the Leukopy article's "
            "VGG-16: the last maps averaged over the positions, 1,024 numbers, dropout 0.2, 512, dropout, the classes."
        ),
    )
    trained: Literal["all", "last-block", "svm"] = Field(
        "all",
        description=(
            "What is trained: 'all'; 'last-block' with the layers behind it; or, with 'svm', in three steps: all "
            "layers, all but those behind the features (the 1,024 numbers of a dense head, the penultimate layer of a "
            "linear one), and a support vector machine on these features in place of the rest."
        ),
    )
    masked: Masked | None = Field(
        None,
        description=(
            "Blacken what lies outside the cell: outside the detector's 'mask', or of what is central and 'purple'."
        ),
    )
    size: int = Field(128, ge=16, description="Side in px that the crops are brought to.")
    validation_fraction: float = Field(
        1 / 9, gt=0, lt=1, description="Of the training cells, to choose the epoch by: 1/9 of 90 % makes 80/10/10."
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of each label that is spread over all classes.")
    epochs: int = Field(50, ge=1, description="At most.")
    batch_size: int = Field(32, ge=2, description="Cells a step.")
    lr: float = Field(
        1e-3, gt=0, description="Of RAdam; a tenth after `plateau` epochs without a lower validation loss."
    )
    plateau: int = Field(4, ge=1, description="See `lr`.")
    patience: int = Field(10, ge=1, description="Epochs without a lower validation loss before the training stops.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="'bf16' computes convolutions in bfloat16.")
    seed: int = Field(0, ge=0, description="Of weights, split, order and augmentations.")


@dataclass(frozen=True)
class ResNeXt:
    """All of a ResNeXt-50 trained on the labels of the source; in its own domain, what can be hoped for."""

    config: SupervisedConfig
    Config: ClassVar[type[BaseModel]] = SupervisedConfig
    kind: ClassVar[Kind] = "prediction"
    adapts: ClassVar[bool] = False
    title: ClassVar[str] = "ResNeXt-50 trained on labels, the supervised upper bound in its own domain"

    @property
    def name(self) -> str:
        """As in the registry."""
        return "resnext"

    @property
    def needs(self) -> frozenset[str]:
        """Labels; masks if `masked` says so; weights if some are named."""
        wanted = {"labels": True, "masks": self.config.masked == "mask", "weights": self.config.weights is not None}
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def fit(self, store: Store, rows: np.ndarray, folder: Path, target_rows: np.ndarray) -> None:
        """Train on `rows`, a part of which chooses the epoch; `target_rows` are not looked at.

        Rotation, flips and shear; classes weigh total / (2 · count). `folder` gets weights.safetensors, model.json and
        metrics.csv.

        Raises:
            CellfeatError: A cell of `rows` has no label, or `folder` holds another run.
        """
        config, rows = self.config, np.asarray(rows)
        record = folders.run_record(folder, self, store, ("checkpoints/*.ckpt", "step*/checkpoints/*.ckpt"), rows=rows)
        if record.check() and (folder / MODEL).is_file():
            return
        record.begin()
        classes, label = numbered_labels(store, rows, self.name)
        normalisation = Normalisation.fixed(store, IMAGENET_MEAN, IMAGENET_SD)
        plain = CropDataset(store, label, normalisation, masked=config.masked)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            weights = local_weights(config.model, config.weights, config.pretrained)
            network = self._network(len(classes), weights).to(best_device())
        if config.trained == "svm":
            self._train(store, network, rows, label, plain, folder / STEPS[0], len(classes))
            network.head.requires_grad_(False)
            self._train(store, network, rows, label, plain, folder / STEPS[1], len(classes))
            _join_steps(folder)
            network.to(best_device()).eval()
            network.head = support_vector_head(outputs(network.body, plain, rows).numpy(), label[rows], config.seed)
        else:
            self._train(store, network, rows, label, plain, folder, len(classes))
        save_classifier(folder, network, classes, normalisation, record)
        for step in STEPS:
            shutil.rmtree(folder / step, ignore_errors=True)
        log.info("%s: %d classes from %d cells", folder, len(classes), len(rows))

    def predict(self, store: Store, rows: np.ndarray, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
        """Classes, and probabilities (len(rows), k) float32."""
        network, classes, dataset = self.load(store, folder)
        return classes, outputs(network, dataset, rows).softmax(1).numpy()

    def load(self, store: Store, folder: Path) -> tuple[Network, tuple[str, ...], CropDataset]:
        """The fitted network in evaluation mode, its classes, and a store's cells as it sees them.

        The store may have domains that the network has not learned from: all are normalised alike.
        """
        network, classes, normalisation = load_classifier(folder, self._fitted)
        normalisation = normalisation.extended(store.table()["domain"], like=next(iter(normalisation.number)))
        return network, classes, CropDataset(store, unknown_labels(store), normalisation, masked=self.config.masked)

    def _network(self, classes: int, weights: str | None) -> Network:
        config = self.config
        if config.head == "linear":
            body, features = headless(config.model, config.size, weights, config.sha256)
            return Network(body, nn.Linear(features, classes))
        body, features = convolutions(config.model, config.size, weights, config.sha256)
        behind = [nn.Dropout(DROPOUT), nn.Linear(DENSE[0], DENSE[1]), nn.ReLU()]
        head = nn.Sequential(*behind, nn.Dropout(DROPOUT), nn.Linear(DENSE[1], classes))
        return Network(nn.Sequential(*body, nn.Linear(features, DENSE[0]), nn.ReLU()), head)

    def _fitted(self, classes: int) -> Network:
        """As `_network`, with the support vector machine in place of the head if there is one."""
        network = self._network(classes, None)
        if self.config.trained == "svm" and self.config.head == "dense":
            network.head = nn.Linear(DENSE[0], classes)
        return network

    def _train(
        self,
        store: Store,
        network: Network,
        rows: np.ndarray,
        label: np.ndarray,
        plain: CropDataset,
        folder: Path,
        classes: int,
    ) -> None:
        config = self.config
        part = stratified_split(store.table().iloc[rows], config.validation_fraction, config.seed).to_numpy()
        learned, validation = rows[part == "train"], rows[part == "test"]
        if len(validation) == 0:
            raise MissingRequirement(f"{self.name}: no class has two images, so none is left to choose the epoch by")
        weight = class_weights(label[learned], classes, share=2)
        truth = torch.from_numpy(label[validation])
        if config.trained == "last-block" and (config.pretrained or config.weights is not None):
            freeze_below_last_block(network.body[1])

        def loss(network: nn.Module, batch: CropBatch, step: int) -> dict[str, Tensor]:
            return {"loss": weighted_cross_entropy(network(batch.images), batch.label, weight, config.label_smoothing)}

        def score(network: nn.Module) -> dict[str, float]:
            return {"score": -float(weighted_cross_entropy(outputs(network, plain, validation), truth, weight))}

        module = ClassifierModule(
            network,
            CropDataset(store, label, plain.normalisation, transfer_learning(), config.masked),
            CropSampler(learned, config.batch_size, config.seed),
            loss=loss,
            score=score,
            optimizer=lambda parameters: torch.optim.RAdam(parameters, config.lr),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, "max", factor=0.1, patience=config.plateau, threshold_mode="abs"
            ),
            seed=config.seed,
        )
        train(module, folder, self.name, config.epochs, len(learned), config.patience, config.precision)


class FinetuneConfig(SupervisedConfig):
    """Settings of `Finetune`: those of `ResNeXt`, at the size that ImageNet's networks were trained at."""

    model: str = Field("vgg16", description="Network of torchvision; what follows the colon of the name.")
    head: Literal["linear", "dense"] = Field(
        "linear",
        description=(
            "What follows the network: 'linear', one layer in place of its last; or 'dense', the default of a VGG and "
            "the article's: the last maps averaged over the positions, 1,024 numbers, dropout 0.2, 512, dropout, the "
            "classes."
        ),
    )
    size: int = Field(224, ge=16, description="Side in px that the crops are brought to.")
    lr: float = Field(
        1e-4, gt=0, description="Of RAdam; a tenth after `plateau` epochs without a lower validation loss."
    )

    @model_validator(mode="before")
    @classmethod
    def _head_of_a_vgg(cls, given: Any) -> Any:
        if isinstance(given, dict) and str(given.get("model", "vgg16")).startswith("vgg"):
            return {"head": "dense", **given}
        return given


@dataclass(frozen=True)
class Finetune(ResNeXt):
    """Transfer learning from ImageNet: `finetune:vgg16`, `finetune:vgg19`, `finetune:vit_b_16` and others.

    The article's three are vgg16 with trained="svm", vgg19 with trained="last-block", both with the dense head, the
    default of a VGG, and vit_b_16 with trained="all".
    """

    Config: ClassVar[type[BaseModel]] = FinetuneConfig
    title: ClassVar[str] = "Transfer learning from ImageNet, the Leukopy article's"

    @property
    def name(self) -> str:
        """ "finetune:" and the network."""
        return f"finetune:{self.config.model}"


class Network(nn.Module):
    """A body that ends in the features (of a linear head, the penultimate layer), and the layers behind them."""

    def __init__(self, body: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def features(self, images: Tensor) -> Tensor:
        """(n, d) of images (n, 3, S, S): what the head sees."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, k) of images (n, 3, S, S)."""
        return self.head(self.body(images))


def _join_steps(folder: Path) -> None:
    """One metrics.csv of both steps, their epochs counted through, with a column `step`."""
    logs = [pd.read_csv(folder / step / METRICS) for step in STEPS]
    logs[1]["epoch"] += len(logs[0])
    joined = pd.concat([log.assign(step=k + 1) for k, log in enumerate(logs)])
    write_text(folder / METRICS, csv_text(joined))


def support_vector_head(features: np.ndarray, label: np.ndarray, seed: int) -> nn.Linear:
    """A linear support vector machine, one class against the rest, with the features' z-score folded in.

    Args:
        features: (n, d).
        label: (n,) int from 0 to k − 1, each there.
        seed: Of its coordinate descent.

    Returns:
        The layer (d to k) whose outputs are the distances from the classes' planes.
    """
    scaler = StandardScaler().fit(features)
    machine = LinearSVC(class_weight="balanced", random_state=seed).fit(scaler.transform(features), label)
    plane, offset = machine.coef_ / scaler.scale_, machine.intercept_
    offset = offset - plane @ scaler.mean_
    if len(plane) == 1:  # of two classes there is one plane, positive for the second
        plane, offset = np.concatenate([-plane, plane]), np.concatenate([-offset, offset])
    head = nn.Linear(*plane.shape[::-1])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(plane))
        head.bias.copy_(torch.from_numpy(offset))
    return head
