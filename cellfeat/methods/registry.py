"""The methods by name: those of the package, those of installed packages, and those that a program registers.

A package joins by an entry point of the group `cellfeat.methods` whose object is a class of `cellfeat.methods.base`;
a program joins by the decorator `register`. Nothing is imported before its method is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cellfeat.core.settings import Setting, describe_settings, parse
from cellfeat.errors import CellfeatError

log = logging.getLogger(__name__)

GROUP = "cellfeat.methods"
FAMILY = ":<model>"  # `family:model` builds the family's class with config.model = what follows the colon
DEMANDED = ("title", "kind", "needs", "Config", "fit")

_BUILT_IN = {
    "aae": "aae:AAE",
    "ae": "ae:AE",
    "aecfe": "aecfe:AECFE",
    "colour": "colour:Colour",
    "dinobloom": "frozen:DinoBloom",
    "finetune:<model>": "supervised:Finetune",
    "image-ae": "image_ae:ImageAE",
    "mdd": "mdd:MDD",
    "measurements": "measurements:Measurements",
    "pixels": "pixels:Pixels",
    "psd": "psd:PSD",
    "quantiles": "quantiles:Quantiles",
    "rcnn": "rcnn:RCNN",
    "resnet": "frozen:ResNet",
    "resnext": "supervised:ResNeXt",
    "simclr": "simclr:SimCLR",
    "timm:<model>": "frozen:Timm",
    "wbc-aecfe": "wbc_aecfe:WBCAECFE",
    "wbc-ssl": "wbc_ssl:WBCSSL",
}
_registered: dict[str, type] = {}


def register(name: str) -> Callable[[type], type]:
    """Add a class of methods under a name: `@register("mine")`, or `@register("mine:<model>")` for a family.

    Raises:
        CellfeatError: Another method has the name, or the class lacks something that a method has.
    """

    def add(cls: type) -> type:
        if name in _BUILT_IN or _registered.get(name, cls).__qualname__ != cls.__qualname__:
            raise CellfeatError(f"method {name!r}: there is one of this name", "choose another")
        _registered[name] = _checked(name, cls)
        return cls

    return add


def method_names() -> list[str]:
    """Names of all methods, sorted; families as `family:<model>`."""
    return sorted({*_BUILT_IN, *_registered, *(point.name for point in _entry_points())})


def find(name: str) -> type:
    """The class of a method or, for `family:model`, of its family.

    Raises:
        CellfeatError: No such method, or the package that brings it cannot be imported.
    """
    family, colon, _ = name.partition(":")
    key = f"{family}{FAMILY}" if colon else name
    if key in _registered:
        return _registered[key]
    if key in _BUILT_IN:
        module, _, kind = _BUILT_IN[key].partition(":")
        return getattr(import_module(f"cellfeat.methods.{module}"), kind)
    for point in _entry_points():
        if point.name == key:
            return _checked(key, _load(point))
    raise CellfeatError(f"method {name!r}: there is none of this name", f"choose from {', '.join(method_names())}")


def build(name: str, config: Mapping[str, Any] | None = None) -> Any:
    """A method (see `cellfeat.methods.base`) by its name, with its settings checked.

    Args:
        name: One of `method_names`, such as "rcnn", or a family's, such as "timm:resnet18".
        config: Settings that differ from the method's defaults.

    Raises:
        CellfeatError: No such method, or a setting that it does not know or accept.
    """
    chosen: Any = find(name)
    _, _, model = name.partition(":")
    return chosen(parse(chosen.Config, {**(config or {}), **({"model": model} if model else {})}, name))


@dataclass(frozen=True)
class MethodInfo:
    """What is told of a method.

    Attributes:
        name: Its name, or `family:<model>`.
        title: A few words.
        kind: "embedding" or "prediction".
        needs: Of "labels", "masks" and "weights", those that it cannot do without when only defaults are set.
        settings: Of its config.
    """

    name: str
    title: str
    kind: str
    needs: tuple[str, ...]
    settings: tuple[Setting, ...]


def describe(name: str) -> MethodInfo:
    """What is told of one method; its module is imported.

    Raises:
        CellfeatError: As `find`.
    """
    chosen: Any = find(name)
    needs = chosen.needs
    if not isinstance(needs, frozenset):  # it depends on the settings
        needs = chosen(chosen.Config.model_construct()).needs
    return MethodInfo(name, chosen.title, chosen.kind, tuple(sorted(needs)), tuple(describe_settings(chosen.Config)))


def list_methods() -> list[MethodInfo]:
    """What is told of every method, sorted by name; one of a broken package is left out with a warning."""
    found = []
    for name in method_names():
        try:
            found.append(describe(name))
        except CellfeatError as error:
            log.warning("%s", error)
    return found


def _entry_points() -> list[EntryPoint]:
    return [point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN]


def _load(point: EntryPoint) -> type:
    try:
        return point.load()
    except Exception as error:  # any code of another package
        reason = f"{type(error).__name__}: {error}"
        raise CellfeatError(f"method {point.name!r}: {point.value} cannot be imported ({reason})") from error


def _checked(name: str, cls: Any) -> type:
    missing = [attribute for attribute in DEMANDED if not hasattr(cls, attribute)]
    if missing:
        raise CellfeatError(f"method {name!r}: {cls!r} lacks {', '.join(missing)}", "see cellfeat.methods.base")
    return cls
