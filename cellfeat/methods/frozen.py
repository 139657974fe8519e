"""Frozen networks that others trained: ImageNet's ResNet-101, whatever timm has, and DinoBloom.

`weights` is a local file, and a method without it says where the file is to be had; ResNet-101's and DinoBloom-S's are
downloaded where `pretrained` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from cellfeat.core.tensors import best_device
from cellfeat.core.weights import REGISTRY, get_weights
from cellfeat.errors import CellfeatError, MissingRequirement, MissingWeights
from cellfeat.methods.backbones import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    Resize,
    cut_head,
    load_weights,
    read_weights,
    torchvision_model,
)
from cellfeat.methods.crops import CropDataset, Normalisation, unknown_labels
from cellfeat.methods.hub import hub_url, local_weights
from cellfeat.store import embed_batches

if TYPE_CHECKING:
    from cellfeat.methods.base import Kind
    from cellfeat.store import Store

DINOBLOOM = {
    "s": "vit_small_patch14_dinov2",
    "b": "vit_base_patch14_dinov2",
    "l": "vit_large_patch14_dinov2",
    "g": "vit_giant_patch14_dinov2",
}


class FrozenConfig(BaseModel):
    """What the frozen networks have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: str | None = Field(None, description="Local file of the network's parameters, .safetensors or .pth.")
    sha256: str | None = Field(None, description="Digest that the file must have (or its first eight digits or more).")
    size: int = Field(224, ge=14, description="Side in px that the crops are brought to.")
    batch_size: int = Field(32, ge=1, description="Cells at a time.")


class ResNetConfig(FrozenConfig):
    """Settings of `ResNet`: a file or torchvision's."""

    pretrained: bool = Field(
        False,
        description=(
            "Without `weights`: take torchvision's ImageNet weights, downloaded once and checked against the "
            "digest in their name."
        ),
    )


@dataclass(frozen=True)
class ResNet:
    """ResNet-101 trained on ImageNet; 2,048 averaged features of the crop."""

    config: Any
    Config: ClassVar[type[BaseModel]] = ResNetConfig
    kind: ClassVar[Kind] = "embedding"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    title: ClassVar[str] = "ResNet-101 trained on ImageNet"

    @property
    def name(self) -> str:
        """As in the registry."""
        return "resnet"

    @property
    def weights_hint(self) -> str:
        """Where the file is to be had."""
        return f"{_hint(hub_url('resnet101'))}, or set `pretrained`"

    def fit(self, store: Store, rows: np.ndarray, folder: Path) -> None:
        """Nothing is learned."""

    def embed(self, store: Store, folder: Path) -> np.ndarray:
        """(len(store), d) float32.

        Raises:
            CellfeatError: The weights are missing, or are not this network's.
        """
        config = self.config
        path = self.weights_file()
        body, mean, sd = self.network(read_weights(path, config.sha256))
        device = best_device()
        network = nn.Sequential(Resize(config.size), body).eval().to(device)
        dataset = CropDataset(store, unknown_labels(store), Normalisation.fixed(store, mean, sd))

        def outputs(rows: np.ndarray) -> np.ndarray:
            return network(dataset[rows, 0].images.to(device)).float().cpu().numpy()

        with torch.inference_mode():
            return embed_batches(store, self.name, config.batch_size, outputs)

    def weights_file(self) -> str:
        """The local file of the weights.

        Raises:
            MissingWeights: It is not named, or cannot be downloaded.
        """
        pretrained = getattr(self.config, "pretrained", False)  # not of timm, whose files carry no published digest
        path = local_weights("resnet101", self.config.weights, pretrained)
        if path is None:
            raise MissingWeights(f"{self.name}: lacks weights: {self.weights_hint}", lacking="weights")
        return path

    def network(self, weights: dict[str, Any]) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
        """The network with these weights, (n, 3, size, size) to (n, d); the mean and sd of its input's channels."""
        body = torchvision_model("resnet101", self.config.size)
        load_weights(body, self.config.weights or "torchvision's file", weights, ignore="fc.")
        cut_head(body)
        return body, IMAGENET_MEAN, IMAGENET_SD


class TimmConfig(FrozenConfig):
    """Settings of `Timm`: those of all, and `model`, the name that timm has for the network."""

    model: str = Field(description="The name that timm has for the network; what follows the colon of the name.")


class Timm(ResNet):
    """Any network of timm (the extra `timm`) without its head, as `timm:<model>`."""

    Config: ClassVar[type[BaseModel]] = TimmConfig
    title: ClassVar[str] = "Any network of timm without its head"

    @property
    def name(self) -> str:
        """ "timm:" and the network."""
        return f"timm:{self.config.model}"

    @property
    def weights_hint(self) -> str:
        """Where the file is to be had."""
        return _hint(f"model.safetensors from https://huggingface.co/timm/{self.config.model}")

    def network(self, weights: dict[str, Any]) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
        """See `ResNet.network`; mean and sd are those that timm has for the network."""
        body = timm_model(self.config.model, self.config.size)
        known = body.pretrained_cfg
        heads = known.get("classifier") or ()
        for head in [heads] if isinstance(heads, str) else heads:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"{head}.")}
        load_weights(body, self.config.weights, weights)
        return body, known["mean"], known["std"]


class DinoBloomConfig(FrozenConfig):
    """Settings of `DinoBloom`: those of all, and `model`, the size of the vision transformer."""

    model: Literal["s", "b", "l", "g"] = Field("b", description="Size of the vision transformer.")
    pretrained: bool = Field(
        False, description="Without `weights`: take those that `cellfeat weights list` has, of the model s."
    )


class DinoBloom(ResNet):
    """DINOv2 trained on blood and bone marrow (Koch et al., "DinoBloom", MICCAI 2024); the class token."""

    Config: ClassVar[type[BaseModel]] = DinoBloomConfig
    title: ClassVar[str] = "DinoBloom, DINOv2 trained on blood and marrow"

    @property
    def name(self) -> str:
        """As in the registry."""
        return "dinobloom"

    @property
    def weights_hint(self) -> str:
        """Where the file is to be had."""
        return _hint(f"DinoBloom-{self.config.model.upper()} from https://zenodo.org/records/10908163")

    def weights_file(self) -> str:
        """The local file of the weights.

        Raises:
            MissingWeights: It is not named and cannot be downloaded, or is not listed because no digest is published.
        """
        if self.config.weights is not None or not self.config.pretrained:
            return super().weights_file()
        name = f"dinobloom-{self.config.model}"
        if name not in REGISTRY:
            raise MissingWeights(f"{name}: not listed by `cellfeat weights`", self.weights_hint, "weights")
        return str(get_weights(name))

    def network(self, weights: dict[str, Any]) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
        """See `ResNet.network`."""
        body = timm_model(DINOBLOOM[self.config.model], self.config.size)
        load_weights(body, self.config.weights, rename_dinov2(weights))
        return body, IMAGENET_MEAN, IMAGENET_SD


def timm_model(name: str, size: int) -> Any:
    """A network of timm with random weights and without its head.

    Raises:
        CellfeatError: timm is not installed or has no such network.
    """
    try:
        import timm
    except ImportError:
        raise MissingRequirement(f"{name}: timm is not installed", "pip install 'cellfeat[timm]'", "package") from None
    if not timm.is_model(name.partition(".")[0]):
        raise CellfeatError(f"model {name!r}: timm has none of this name; see timm.list_models()")
    options: dict[str, Any] = {"img_size": size} if name.startswith(("vit_", "deit")) else {}
    return timm.create_model(name, pretrained=False, num_classes=0, **options)


def rename_dinov2(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Parameters under DINOv2's names under those of timm's vision transformer.

    Those of a training run lie under "teacher", beside its heads, and its blocks may be in chunks.
    """
    inner = next((weights[key] for key in ("teacher", "model") if key in weights), weights)
    renamed = {}
    for name, tensor in inner.items():
        name = name.removeprefix("module.").removeprefix("backbone.")
        if name.startswith(("dino_head", "ibot_head")) or name == "mask_token":
            continue
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        renamed[name] = tensor
    return renamed


def _hint(source: str) -> str:
    return f"download {source} and give the file's path as `weights` in its config"
