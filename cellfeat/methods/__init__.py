"""Extractors and classifiers that AE-CFE is compared with, one file a method; `build` makes one by its name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from cellfeat.core.settings import parse
from cellfeat.errors import CellfeatError

# Name to "module:class". A module is imported when its method is asked for.
_HOME = {
    "aae": "aae:AAE",
    "ae": "ae:AE",
    "aecfe": "aecfe:AECFE",
    "colour": "colour:Colour",
    "dinobloom": "frozen:DinoBloom",
    "image-ae": "image_ae:ImageAE",
    "mdd": "mdd:MDD",
    "psd": "psd:PSD",
    "quantiles": "quantiles:Quantiles",
    "rcnn": "rcnn:RCNN",
    "resnet": "frozen:ResNet",
    "resnext": "supervised:ResNeXt",
}

# The same for `family:model`, built with config.model = what follows the colon.
_FAMILIES: dict[str, str] = {
    "finetune": "supervised:Finetune",
    "timm": "frozen:Timm",
}

NAMES = (*_HOME, *(f"{family}:<model>" for family in _FAMILIES))


def build(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """A method (see `cellfeat.methods.base`) by its name, with its settings checked.

    Args:
        name: One of `NAMES`, such as "rcnn", or a family's, such as "timm:resnet18".
        config: Settings that differ from the method's defaults.

    Raises:
        CellfeatError: No such method, or a setting that it does not know or accept.
    """
    family, _, model = name.partition(":")
    home = _FAMILIES.get(family) if model else _HOME.get(name)
    if home is None:
        raise CellfeatError(f"method {name!r}: there is none of this name; choose from {', '.join(NAMES)}")
    module, kind = home.split(":")
    chosen = getattr(import_module(f"{__name__}.{module}"), kind)
    return chosen(parse(chosen.Config, {**(config or {}), **({"model": model} if model else {})}, name))
