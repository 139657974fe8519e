"""Published weights by name, with address, digest, licence and card. What has no published digest is not listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cellfeat.core.download import cache_folder, check_digest, fetch
from cellfeat.core.files import sha256_file
from cellfeat.errors import CellfeatError, Damaged

IMAGENET = "BSD-3-Clause (torchvision); trained on ImageNet, whose terms allow research"
TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html"


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    Attributes:
        purpose: Which method or detector starts from it.
        url: Its address.
        sha256: Hex digest; its first eight digits where no more is published.
        licence: Of the weights.
        card: Where they are described.
    """

    purpose: str
    url: str
    sha256: str
    licence: str
    card: str

    @property
    def file(self) -> str:
        """Its name in the cache."""
        return self.url.rpartition("/")[2]


def _imagenet(name: str, digits: str, purpose: str) -> Weights:
    """Weights of torchvision, whose file names end in the first eight digits of the digest."""
    return Weights(purpose, f"https://download.pytorch.org/models/{name}-{digits}.pth", digits, IMAGENET, TORCHVISION)


REGISTRY: Mapping[str, Weights] = MappingProxyType(
    {
        "dinobloom-s": Weights(
            "dinobloom with model: s",
            "https://zenodo.org/records/10908163/files/DinoBloom-S.pth",
            # as github.com/KatherLab/STAMP checks it
            "c2f7990b003e89bcece80e379fb8fe0ba2ec392ce19b286e8a294abd99568e44",
            "Apache-2.0 (github.com/marrlab/DinoBloom)",
            "https://doi.org/10.5281/zenodo.10908163",
        ),
        "imagenet-resnet18": _imagenet("resnet18", "f37072fd", "mdd"),
        "imagenet-resnet50": _imagenet("resnet50", "0676ba61", "mdd, finetune:resnet50, detectors by convert-weights"),
        "imagenet-resnet101": _imagenet("resnet101", "63fe2227", "resnet, detectors by convert-weights"),
        "imagenet-resnext50_32x4d": _imagenet("resnext50_32x4d", "7cdf4587", "resnext"),
        "imagenet-vgg16": _imagenet("vgg16", "397923af", "finetune:vgg16, wbc_faster_rcnn_VGG16_FPN.yaml"),
        "imagenet-vgg19": _imagenet("vgg19", "dcbb9e9d", "finetune:vgg19"),
        "imagenet-vit_b_16": _imagenet("vit_b_16", "c867db91", "finetune:vit_b_16"),
    }
)


def find_weights(name: str) -> Weights:
    """The entry of a name.

    Raises:
        CellfeatError: There is none.
    """
    if name not in REGISTRY:
        raise CellfeatError(f"weights {name!r}: not listed", f"choose from {', '.join(REGISTRY)}")
    return REGISTRY[name]


def get_weights(name: str) -> Path:
    """The local file of weights, downloaded unless it is there; see `cellfeat.core.download.fetch`."""
    entry = find_weights(name)
    return fetch(entry.url, entry.sha256)


def cached_weights(name: str) -> Path | None:
    """The local file of weights where it is there."""
    path = cache_folder() / find_weights(name).file
    return path if path.is_file() else None


def verify_weights(name: str) -> Path | None:
    """As `cached_weights`, with the digest checked.

    Raises:
        CellfeatError: The file has another digest.
    """
    path = cached_weights(name)
    if path is not None:
        check_digest(path, find_weights(name).sha256, str(path))
    return path


def packaged(path: Path, sha256: str) -> Path:
    """A file of weights that comes with the package, once it is known to be the published one.

    Raises:
        Damaged: It is missing or changed.
    """
    if not path.is_file() or sha256_file(path) != sha256:
        raise Damaged(f"{path}: missing or changed", "install cellfeat again")
    return path
