"""Detector weights on disk: Detectron2's parameter names, whichever engine wrote or reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cellfeat.core.files import sha256_file
from cellfeat.core.tensors import load_tensors, read_torch
from cellfeat.core.weights import packaged
from cellfeat.errors import CellfeatError

State = dict[str, Tensor]

BUILT_IN = "cellfeat://wbc_builtin"  # MODEL.WEIGHTS of wbc_builtin.yaml: the detector that comes with the package
BUILT_IN_FILE = Path(__file__).parent / "weights" / "wbc_builtin.safetensors"  # MODEL_CARD.md beside it
BUILT_IN_SHA256 = "d45f788bc2e28cf395733a8b298fe6764e7ba946dd15e73ef79c3c0959a3d034"

_CONSTANTS = re.compile(r"\.num_batches_tracked$|\.anchor_generator\.cell_anchors\.|^pixel_(mean|std)$")


def resolve_weights(weights: str) -> Path:
    """The local file that `MODEL.WEIGHTS` names.

    `cellfeat://wbc_builtin` is in the package. `detectron2://PATH` is looked for where Detectron2 caches its downloads
    ($FVCORE_CACHE, by default ~/.torch/iopath_cache). Nothing is downloaded.

    Raises:
        CellfeatError: There is no such file.
        Damaged: The package's file is missing or changed.
    """
    if weights == BUILT_IN:
        return packaged(BUILT_IN_FILE, BUILT_IN_SHA256)
    if weights.startswith("detectron2://"):
        name = weights.removeprefix("detectron2://")
        cache = Path(os.environ.get("FVCORE_CACHE", "~/.torch/iopath_cache")).expanduser()
        path = cache / "detectron2" / name
        if not path.is_file():
            raise CellfeatError(
                f"MODEL.WEIGHTS {weights}: not at {path}; download Detectron2's model-zoo file {name} and give its "
                "path as MODEL.WEIGHTS, or train from scratch with MODEL.WEIGHTS '' and a GroupNorm config"
            )
        return path
    path = Path(weights)
    if not path.is_file():
        raise CellfeatError(f"MODEL.WEIGHTS {weights}: no such file")
    return path


def read_state(path: str | Path) -> State:
    """Read parameters by name: .pth (bare or under "model"), .safetensors, or model-zoo .pkl. Runs no code of the file.

    Raises:
        CellfeatError: Another format, a damaged file, or a pickle of more than arrays.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return load_tensors(path, "give the path of the weights", "restore it")
    if path.suffix not in (".pkl", ".pth", ".pt"):
        raise CellfeatError(f"{path}: weights are read from .pth, .safetensors or a model-zoo .pkl")
    content = read_torch(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise CellfeatError(f"{path}: holds no parameters by name")
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise CellfeatError(f"{path}: holds no parameters by name")
    return state


def load_weights(
    weights: str, shapes: Mapping[str, tuple[int, ...]], sha256: str = "", new_heads: Sequence[str] = ()
) -> State:
    """Read `MODEL.WEIGHTS` for a model whose parameters have `shapes` (Detectron2's names).

    A backbone alone (an ImageNet model, names beginning with stem or res) fills the backbone; everything else must fit.

    Args:
        weights: A path or detectron2:// name.
        shapes: Name → shape of every parameter and buffer of the model.
        sha256: The file's expected hex digest; empty: not checked.
        new_heads: Beginnings of the names of parameters that are left out, in the file as in the model.

    Raises:
        CellfeatError: The digest differs, or parameters are missing, unexpected or of another shape: they are listed.
    """
    path = resolve_weights(weights)
    if sha256 and sha256_file(path) != sha256.lower():
        raise CellfeatError(f"{path}: its sha256 is {sha256_file(path)}, but MODEL.WEIGHTS_SHA256 says {sha256}")
    new = tuple(new_heads)
    if unknown := [name for name in new if not any(key.startswith(name) for key in shapes)]:
        raise CellfeatError(f"MODEL.NEW_HEADS {unknown[0]}: no parameter of this model begins so")
    state = {name: value for name, value in read_state(path).items() if not name.startswith(new)}
    expected = {name: shape for name, shape in shapes.items() if not name.startswith(new)}
    if is_backbone(state):
        state = {f"backbone.bottom_up.{name}": value for name, value in backbone_names(state).items()}
        expected = {name: shape for name, shape in shapes.items() if name.startswith("backbone.bottom_up.")}
        state = {name: value for name, value in state.items() if ".fc." not in name}
    # Counters and constants that a file may or may not carry say nothing about the architecture.
    state = {name: value for name, value in state.items() if name in expected or not _CONSTANTS.search(name)}
    problems = _mismatches({name: tuple(value.shape) for name, value in state.items()}, expected)
    if problems:
        raise CellfeatError(
            f"{path}: not a checkpoint of this architecture: {'; '.join(problems)}; "
            "MODEL.NEW_HEADS names the heads that shall start afresh"
        )
    return {name: value.to(torch.float32) if value.is_floating_point() else value for name, value in state.items()}


def _mismatches(found: dict[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in expected]
    shaped = [
        f"{name} {found[name]} for {expected[name]}"
        for name in found
        if name in expected and found[name] != expected[name]
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shaped))
    return [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds
        if names
    ]


def is_backbone(state: State) -> bool:
    """Whether these are the parameters of a backbone alone, by the names of an ImageNet model or by Detectron2's."""
    outside = [name for name in state if not name.startswith("backbone.bottom_up.")]
    return not outside or not any(name.startswith(("backbone.", "roi_heads.")) for name in state)


def backbone_names(state: State) -> State:
    """Detectron2's names for an ImageNet backbone: it has them already, or Caffe2's (res2_0_branch2a_w, ...).

    A VGG of torchvision keeps its names.
    """
    state = {name.removeprefix("backbone.").removeprefix("bottom_up."): value for name, value in state.items()}
    if any(name.startswith("res2.") for name in state):
        return state
    if "features.0.weight" in state:  # torchvision's VGG; its classifier is of no use here
        return {name: value for name, value in state.items() if name.startswith("features.")}
    renamed = {}
    for name, value in state.items():
        name = name.replace("_bn_s", ".norm.weight").replace("_bn_b", ".norm.bias")
        name = re.sub(r"_w$", ".weight", re.sub(r"_b$", ".bias", name))
        name = re.sub(r"^res_conv1\.", "stem.conv1.", re.sub(r"^conv1\.", "stem.conv1.", name))
        name = re.sub(r"^res(\d)_(\d+)_branch1", r"res\1.\2.shortcut", name)
        name = re.sub(r"^res(\d)_(\d+)_branch2([abc])", lambda m: f"res{m[1]}.{m[2]}.conv{'abc'.index(m[3]) + 1}", name)
        renamed[name] = value
    for name in [n for n in renamed if n.endswith(".norm.weight")]:  # Caffe2 folded the statistics into scale and shift
        renamed.setdefault(name.replace("weight", "running_mean"), torch.zeros_like(renamed[name]))
        renamed.setdefault(name.replace("weight", "running_var"), torch.ones_like(renamed[name]))
    return {name: value for name, value in renamed.items() if name.startswith(("stem.", "res"))}
