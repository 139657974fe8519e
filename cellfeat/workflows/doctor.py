"""`cellfeat doctor`: what is installed, what runs, and the one line that installs what is missing."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from cellfeat.core.version import __version__
from cellfeat.data.catalogue import data_root, dataset_names
from cellfeat.detection import choose_engine, detectron2_problem

PACKAGES = ("torch", "torchvision", "numpy", "fvcore", "h5py", "lightning", "pycocotools", "opencv-python-headless")

# Detectron2 is not on PyPI. Its Python sources are enough here: its compiled part (rotated boxes, deformable
# convolutions) is used by no detector of this package.
DETECTRON2_SOURCES = "git clone https://github.com/facebookresearch/detectron2 && export PYTHONPATH=$PWD/detectron2"
DETECTRON2_NEEDS = "omegaconf hydra-core iopath tensorboard cloudpickle tabulate termcolor"

# module: (what it adds, the line that installs it)
OPTIONS = {
    "detectron2": ("the engine detectron2", DETECTRON2_SOURCES),
    "tensorboard": ("--log tensorboard", "pip install tensorboard"),
}


def examine() -> dict[str, Any]:
    """Versions, devices, engine, data and missing options, as JSON values."""
    import torch

    problem = detectron2_problem()
    root = data_root()
    return {
        "cellfeat": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [_gpu(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "engine": {"name": choose_engine("auto"), "detectron2_problem": problem} | ({} if problem else _detectron2()),
        "data_root": str(root),
        "datasets": [name for name in dataset_names() if (root / name).is_dir()] if root.is_dir() else None,
        "options": list(_options()),
    }


def report(found: dict[str, Any]) -> Iterator[str]:
    """What `examine` found, as lines for a terminal or a bug report."""
    yield f"cellfeat      {found['cellfeat']}"
    yield f"python        {found['python']} on {found['platform']}"
    for name, version in found["packages"].items():
        yield f"{name:13} {version or f'missing: pip install {name}'}"
    yield ""
    yield f"CPU: {found['cores']} cores, {found['threads']} threads (OMP_NUM_THREADS)"
    for i, gpu in enumerate(found["gpus"]):
        yield f"GPU {i}: {gpu['name']}, {gpu['gib']} GiB"
    if not found["gpus"]:
        built = f"for CUDA {found['cuda']}, but finds none" if found["cuda"] else "for the CPU"
        yield f"no GPU: torch is built {built}; detectors run on the CPU whatever MODEL.DEVICE says"
    yield ""
    engine = found["engine"]
    yield f"engine: {engine['name']} ({engine['detectron2_problem'] or 'Detectron2 can be imported'})"
    if engine["detectron2_problem"]:
        yield "  the torchvision engine reads the same configs and checkpoints and gives the same numbers"
    else:
        yield f"  detectron2 {engine['detectron2']} at {engine['folder']}"
    yield ""
    here = found["datasets"]
    if here is None:
        yield f"data root: {found['data_root']}, which does not exist: export CELLFEAT_DATASETS=/folder/of/datasets"
    else:
        names = ", ".join(here) or "none; see `cellfeat datasets`"
        yield f"data root: {found['data_root']}, {len(here)} datasets ({names})"
    yield ""
    for option in found["options"]:
        name = f"{option['module']} ({option['purpose']})"
        yield f"missing: {name}: {option['install']}" if option["install"] else f"found:   {name}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpu(number: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(number)
    return {"name": properties.name, "gib": round(properties.total_memory / 2**30)}


def _detectron2() -> dict[str, str]:
    import detectron2

    return {"detectron2": detectron2.__version__, "folder": os.path.dirname(detectron2.__file__)}


def _options() -> Iterator[dict[str, str | None]]:
    """What can be installed besides; `install` is None where it is there."""
    for module, (purpose, line) in OPTIONS.items():
        install = None
        try:
            importlib.import_module(module)
        except Exception as error:  # absent, or broken
            install = _repair(module, line, error)
        yield {"module": module, "purpose": purpose, "install": install}


def _repair(module: str, line: str, error: Exception) -> str:
    """The line to type: a package that is there and fails for want of another needs that other one."""
    wanted = getattr(error, "name", None)
    if module == "detectron2" and wanted and wanted.split(".")[0] != "detectron2":
        return f"pip install {DETECTRON2_NEEDS}"
    return line
