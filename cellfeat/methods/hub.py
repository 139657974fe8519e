"""Pretrained weights for methods that are asked for `pretrained` ones: torchvision's of ImageNet, and the registry's.

The addresses are torchvision's own, and a file's name ends in the first eight digits of its sha256, which it must have.
"""

from __future__ import annotations

import re

from torchvision.models import get_model_weights, list_models

from cellfeat.core.download import fetch
from cellfeat.errors import CellfeatError

ENTRY = "IMAGENET1K_V1"  # the classic recipe, which every network has; V2 came after the publications' baselines


def hub_url(model: str) -> str:
    """Where torchvision has the ImageNet weights of one of its networks.

    Raises:
        CellfeatError: There is no such network, or it has no such weights.
    """
    if model not in list_models(module=None):
        raise CellfeatError(f"model {model!r}: torchvision has none of this name; see torchvision.models.list_models()")
    known = {entry.name: entry.url for entry in get_model_weights(model)}
    if ENTRY not in known:
        raise CellfeatError(f"{model}: torchvision has no {ENTRY} weights of it", "give a file as `weights`")
    return known[ENTRY]


def local_weights(model: str, weights: str | None, pretrained: bool) -> str | None:
    """The file to start from: the one that is named, or torchvision's, or None.

    Raises:
        MissingWeights: They cannot be downloaded.
        CellfeatError: See `hub_url` and `cellfeat.core.download.fetch`.
    """
    if weights is not None or not pretrained:
        return weights
    url = hub_url(model)
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", url)
    if match is None:
        raise CellfeatError(f"{url}: its name ends in no digest, so it cannot be checked", "give a file as `weights`")
    return str(fetch(url, match[1]))
