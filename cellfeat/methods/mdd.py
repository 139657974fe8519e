"""Margin disparity discrepancy: a classifier for a laboratory without labels, learned from others with labels.

Source: Zhang, Liu, Long, Jordan, "Bridging theory and algorithm for domain adaptation", ICML 2019. Features ψ, a
classifier f and an adversary f' with the same head; σ_y is the softmax probability of class y, ŷ(x) the class that f
names. With the margin factor γ and the trade-off η

    min over ψ, f:  E_source[−log σ_y(f(ψ))] + η D        max over f':  D
    D = γ E_source[log σ_ŷ(f'(ψ))] + E_target[log(1 − σ_ŷ(f'(ψ)))]

f' seeks to agree with f on the source and to disagree on the target; ψ, through a reversed gradient, makes that
impossible. The settings are those of the HAHO challenge article.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from cellfeat.data.model_selection import prediction_entropy, soft_neighbourhood_density
from cellfeat.errors import CellfeatError, MissingRequirement
from cellfeat.methods import folder as folders
from cellfeat.methods.augmentation import domain_adaptation, haho
from cellfeat.methods.backbones import headless
from cellfeat.methods.classifier import (
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
from cellfeat.methods.crops import CropBatch, CropDataset, CropSampler, Normalisation, unknown_labels
from cellfeat.methods.hub import local_weights

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

log = logging.getLogger(__name__)

PRESETS: dict[str, dict[str, Any]] = {"crops": {}, "haho": {"augmentation": "haho", "size": 224}}
"""What a preset sets in place of the defaults; margin, trade-off, rates and epochs are the article's in both."""


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.factor * gradients[0], None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself; its gradient comes back times −factor."""
    return _Reverse.apply(x, factor)


def warm_start(step: int, steps: int, highest: float) -> float:
    """Factor of the reversal: 0 at step 0, then highest · (2 / (1 + e^(−step/steps)) − 1), which nears `highest`."""
    return highest * (2 / (1 + math.exp(-step / steps)) - 1)


def disparity(source: Tensor, target: Tensor, source_class: Tensor, target_class: Tensor, margin: float) -> Tensor:
    """D of the module's docstring, scalar.

    Args:
        source: (n, k) logits of the adversary on the source.
        target: (m, k) on the target.
        source_class: (n,) int64, what the classifier names.
        target_class: (m,) likewise.
        margin: γ.
    """
    agreement = -functional.cross_entropy(source, source_class)
    others = target.scatter(1, target_class[:, None], -torch.inf)  # log(1 − σ_y) without 1 − 1 = 0
    disagreement = (others.logsumexp(1) - target.logsumexp(1)).mean()
    return margin * agreement + disagreement


class MDDNetwork(nn.Module):
    """Backbone and bottleneck (ψ), classifier (f) and adversary (f'); its output is the classifier's."""

    def __init__(self, backbone: nn.Module, features: int, width: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.bottleneck = nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5))
        self.classifier = _head(width, classes)
        self.adversary = _head(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """ψ (n, width) of images (n, 3, S, S)."""
        return self.bottleneck(self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, k) of the classifier."""
        return self.classifier(self.features(images))


def _head(width: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, classes))


class MDDConfig(BaseModel):
    """Settings of `MDD`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["crops", "haho"] = Field(
        "crops",
        description=(
            "'haho' is the article's: its augmentations at 224 px; 'crops' suits crops of little more than the cell. "
            "Other settings that are given win over the preset's."
        ),
    )
    augmentation: Literal["crops", "haho"] = Field(
        "crops", description="Random changes of the crops; 'haho' are the article's, see `augmentation.haho`."
    )
    model: str = Field("resnet18", description="Network of torchvision that gives the features.")
    weights: str | None = Field(None, description="Local file with its ImageNet weights; None starts from scratch.")
    sha256: str | None = Field(None, description="Digest that the file must have.")
    pretrained: bool = Field(
        False,
        description=(
            "Without `weights`: start from torchvision's ImageNet weights, downloaded once and checked against the "
            "digest in their name."
        ),
    )
    size: int = Field(128, ge=16, description="Side in px that the crops are brought to.")
    width: int = Field(1024, ge=1, description="Of the bottleneck and the heads.")
    margin: float = Field(4.0, gt=0, description="γ.")
    trade_off: float = Field(1.0, ge=0, description="η.")
    reversal: float = Field(0.1, ge=0, description="Factor of the reversed gradient that the warm start nears.")
    warm_start_steps: int = Field(1000, ge=1, description="Steps after which the factor is at 46 % of it.")
    epochs: int = Field(50, ge=1, description="At most.")
    batch_size: int = Field(32, ge=2, description="Cells of the source a step; as many of the target follow.")
    lr: float = Field(
        1e-3, gt=0, description="Of SGD with momentum 0.9 and weight decay 0.0005; a tenth after every `lr_epochs`."
    )
    lr_epochs: int = Field(20, ge=1, description="See `lr`.")
    selection: Literal["entropy", "snd"] = Field(
        "snd",
        description=(
            "The epoch is chosen, without a label of the target, by the lowest entropy of its predictions or by "
            "their highest soft neighbourhood density ('snd')."
        ),
    )
    earliest: int = Field(
        10,
        ge=0,
        description=(
            "First epoch, from 0, that may be chosen: a network that has learned little calls all cells the same,"
            " and both measures like that."
        ),
    )
    patience: int = Field(10, ge=1, description="Epochs without a better one before the training stops.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="'bf16' computes convolutions in bfloat16.")
    seed: int = Field(0, ge=0, description="Of weights, order and augmentations.")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        chosen = PRESETS.get(str(given.get("preset", "crops"))) if isinstance(given, dict) else None
        return {**chosen, **given} if chosen else given


@dataclass(frozen=True)
class MDD:
    """Sources pooled, target without labels; classes weigh inversely to their count, domains are z-scored."""

    config: MDDConfig
    Config: ClassVar[type[BaseModel]] = MDDConfig
    kind: ClassVar[Kind] = "prediction"
    title: ClassVar[str] = "Margin disparity discrepancy, the HAHO challenge article's"
    name: ClassVar[str] = "mdd"
    adapts: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:
        """Labels of the source; weights if some are named."""
        return frozenset({"labels"} | ({"weights"} if self.config.weights else set()))

    def fit(self, store: Store, rows: np.ndarray, folder: Path, target_rows: np.ndarray) -> None:
        """Train; `folder` gets weights.safetensors, model.json and metrics.csv.

        Domains of the store that are neither source nor target get the target's z-score, as the article's WBC2, which
        is tested alone, gets that of WBC1, which is adapted to.

        metrics.csv has of each epoch the losses, the accuracy on the source's batches, and on the target the mean
        entropy of the predictions and the soft neighbourhood density of the features ψ.

        Raises:
            CellfeatError: A cell of `rows` has no label, there are fewer than two cells of the target, or `folder`
                holds another run.
        """
        config, rows, target_rows = self.config, np.asarray(rows), np.asarray(target_rows)
        if len(target_rows) < 2:
            reason = f"{len(target_rows)} cells to adapt to, two are needed"
            raise MissingRequirement(f"{self.name}: lacks a target: {reason}", lacking="target")
        record = folders.run_record(folder, self, store, rows=rows, target_rows=target_rows)
        if record.check() and (folder / MODEL).is_file():
            return
        record.begin()
        classes, label = numbered_labels(store, rows, self.name)
        weight = class_weights(label[rows], len(classes), share=len(classes))
        normalisation = Normalisation.measured(store, np.union1d(rows, target_rows))
        domain = store.table()["domain"].to_numpy(str)
        targets = set(domain[target_rows]) - set(domain[rows])
        if len(targets) == 1:  # WBC2 is of the dataset of WBC1
            normalisation = normalisation.extended(domain, like=targets.pop())
        change = haho(config.size) if config.augmentation == "haho" else domain_adaptation(store.layout.crop_size)
        augmented = CropDataset(store, label, normalisation, change)
        plain = CropDataset(store, label, normalisation)

        def loss(network: nn.Module, batch: CropBatch, step: int) -> dict[str, Tensor]:
            return self._loss(network, batch, step, weight)

        def score(network: Any) -> dict[str, float]:
            features = outputs(network, plain, target_rows, network.features)
            with torch.inference_mode():
                logits = network.classifier(features.to(next(network.parameters()).device)).cpu()
            entropy = prediction_entropy(logits.softmax(1).numpy())
            snd = soft_neighbourhood_density(features.numpy())
            return {"score": -entropy if config.selection == "entropy" else snd, "entropy": entropy, "snd": snd}

        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = self._network(len(classes), local_weights(config.model, config.weights, config.pretrained))
        module = ClassifierModule(
            network,
            augmented,
            CropSampler(rows, config.batch_size, config.seed, companions=target_rows),
            loss=loss,
            score=score,
            optimizer=lambda parameters: torch.optim.SGD(parameters, config.lr, momentum=0.9, weight_decay=5e-4),
            schedule=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, config.lr_epochs, 0.1),
            seed=config.seed,
        )
        earliest = min(config.earliest, config.epochs - 1)
        train(module, folder, self.name, config.epochs, 2 * len(rows), config.patience, config.precision, earliest)
        save_classifier(folder, network, classes, normalisation, record)
        log.info("%s: %d classes from %d cells, adapted to %d", folder, len(classes), len(rows), len(target_rows))

    def predict(self, store: Store, rows: np.ndarray, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
        """Classes, and probabilities (len(rows), k) float32.

        Raises:
            CellfeatError: A cell of a domain that has no z-score: it is no source, and no other domain was adapted to.
        """
        network, classes, dataset = self.load(store, folder)
        if unknown := set(store.table()["domain"].to_numpy()[rows]) - set(dataset.normalisation.number):
            raise CellfeatError(f"{folder}: {self.name} was not fitted for the domain {min(unknown)!r}; fit it for it")
        return classes, outputs(network, dataset, rows).softmax(1).numpy()

    def load(self, store: Store, folder: Path) -> tuple[MDDNetwork, tuple[str, ...], CropDataset]:
        """The fitted network in evaluation mode, its classes, and the store's cells as it sees them."""
        network, classes, normalisation = load_classifier(folder, lambda k: self._network(k, None))
        return network, classes, CropDataset(store, unknown_labels(store), normalisation)

    def _network(self, classes: int, weights: str | None) -> MDDNetwork:
        config = self.config
        return MDDNetwork(*headless(config.model, config.size, weights, config.sha256), config.width, classes)

    def _loss(self, network: Any, batch: CropBatch, step: int, weight: Tensor) -> dict[str, Tensor]:
        """Cross-entropy − η D with the adversary behind the reversal: f' raises D, ψ lowers it, f feels neither."""
        config, half = self.config, len(batch.rows) // 2  # the source's cells, then as many of the target
        features = network.features(batch.images)
        logits = network.classifier(features)
        factor = warm_start(step, config.warm_start_steps, config.reversal)
        adversary = network.adversary(reverse_gradient(features, factor))
        named = logits.argmax(1)
        gap = disparity(adversary[:half], adversary[half:], named[:half], named[half:], config.margin)
        classification = weighted_cross_entropy(logits[:half], batch.label[:half], weight)
        return {
            "loss": classification - config.trade_off * gap,
            "classification_loss": classification,
            "transfer_loss": -gap,
            "accuracy": (named[:half] == batch.label[:half]).float().mean(),
        }
