"""Networks of torchvision and their weights from local files (`hub` downloads them)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, list_models

from cellfeat.core.files import sha256_file
from cellfeat.core.tensors import load_tensors, read_torch
from cellfeat.errors import CellfeatError

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Resize(nn.Module):
    """Brings images (n, 3, S, S) to a side in px, bilinear; smaller ones are smoothed first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, size, size)."""
        if images.shape[-1] == self.size:
            return images
        return functional.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)


def read_weights(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Parameters from a .safetensors file or from what torch.save wrote; no code of the file's is ever run.

    Args:
        path: The file.
        sha256: Hex digest, or its beginning of at least eight digits, that the file must have; None takes any file.

    Raises:
        CellfeatError: It is missing, another file than the digest says, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CellfeatError(f"{path}: no such file; give the path of local weights")
    if sha256 is not None:
        found = sha256_file(path)
        if len(sha256) < 8 or not found.startswith(sha256.lower()):
            raise CellfeatError(f"{path}: its sha256 is {found}, not {sha256}; download it again or correct the digest")
    if path.suffix == ".safetensors":
        return load_tensors(path, "give the path of local weights", "download it again")
    content = read_torch(path)
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: holds a {type(content).__name__}, not a dict of parameters")
    return content


def load_weights(network: nn.Module, path: str | Path, weights: Mapping[str, Tensor], ignore: str = "") -> None:
    """Put weights into a network.

    Args:
        network: Changed in place.
        path: Where the weights come from, for messages.
        weights: Name to tensor.
        ignore: Names with this beginning may be missing, superfluous or of another shape (a head that is not used).

    Raises:
        CellfeatError: Other names or shapes than the network's; the message has the first few.
    """
    expected = network.state_dict()
    spared = tuple([ignore] if ignore else [])
    problems = [f"missing {name}" for name in expected.keys() - weights.keys() if not name.startswith(spared)]
    problems += [f"unknown {name}" for name in weights.keys() - expected.keys() if not name.startswith(spared)]
    fitting = {}
    for name in expected.keys() & weights.keys():
        tensor = weights[name]
        if isinstance(tensor, Tensor) and tensor.shape == expected[name].shape:
            fitting[name] = tensor
        elif not name.startswith(spared):
            problems.append(f"{name} is {tuple(getattr(tensor, 'shape', ()))}, not {tuple(expected[name].shape)}")
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CellfeatError(f"{path}: not the weights of this network: {'; '.join(sorted(problems)[:4])}{more}")
    network.load_state_dict(fitting, strict=False)


def torchvision_model(name: str, size: int, weights: str | None = None, sha256: str | None = None) -> nn.Module:
    """A classification network of torchvision, random or with ImageNet weights from a local file.

    Args:
        name: As in `torchvision.models.list_models`.
        size: Side of its input in px; a vision transformer has a position for each of its patches.
        weights: Path, or None for random ones from torch's generator.
        sha256: See `read_weights`.

    Raises:
        CellfeatError: There is no such network, or the weights are not its.
    """
    if name not in list_models(module=None) or "/" in name:
        raise CellfeatError(f"model {name!r}: torchvision has none of this name; see torchvision.models.list_models()")
    options = {"image_size": size} if name.startswith("vit_") else {}
    network = get_model(name, weights=None, **options)
    if weights is not None:
        load_weights(network, weights, read_weights(weights, sha256), ignore=_head_name(network))
    return network


def cut_head(network: nn.Module) -> int:
    """Replace the last linear layer by nothing, so that the penultimate layer comes out; returns its size.

    Raises:
        CellfeatError: The network does not end in a linear layer.
    """
    parent, _, last = _head_name(network).rpartition(".")
    holder = network.get_submodule(parent)
    head = getattr(holder, last)
    setattr(holder, last, nn.Identity())
    return head.in_features


def headless(name: str, size: int, weights: str | None, sha256: str | None) -> tuple[nn.Sequential, int]:
    """A `torchvision_model` behind a `Resize`, without its head: images (n, 3, S, S) to features (n, d); and d."""
    network = torchvision_model(name, size, weights, sha256)
    features = cut_head(network)
    return nn.Sequential(Resize(size), network), features


def convolutions(name: str, size: int, weights: str | None, sha256: str | None) -> tuple[nn.Sequential, int]:
    """As `headless`; of a VGG without all its fully connected layers, its last maps averaged over the positions."""
    if not name.startswith("vgg"):
        return headless(name, size, weights, sha256)
    network: Any = torchvision_model(name, size, weights, sha256)
    features = next(layer.out_channels for layer in reversed(network.features) if isinstance(layer, nn.Conv2d))
    network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Identity()
    return nn.Sequential(Resize(size), network), features


def freeze_below_last_block(network: Any) -> None:
    """Leave only the last block, and what follows it, to be trained.

    A block is a stage of a ResNet (layer4), the convolutions after a VGG's last pooling but one, or the last layer of a
    vision transformer's encoder.

    Raises:
        CellfeatError: A network of another family.
    """
    network.requires_grad_(False)
    if hasattr(network, "layer4"):
        blocks = [network.layer4]
    elif hasattr(network, "encoder"):
        blocks = [network.encoder.layers[-1], network.encoder.ln]
    elif hasattr(network, "features") and hasattr(network, "avgpool"):
        pools = [k for k, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]
        if len(pools) < 2:
            raise CellfeatError(f"{type(network).__name__}: its last block is not known; train all of it")
        blocks = [network.features[pools[-2] + 1 :], network.classifier]
    else:
        raise CellfeatError(f"{type(network).__name__}: its last block is not known; train all of it")
    for block in blocks:
        block.requires_grad_(True)


def _head_name(network: nn.Module) -> str:
    """Name of the last linear layer."""
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise CellfeatError(f"{type(network).__name__}: does not end in a linear layer")
    return linear[-1]
