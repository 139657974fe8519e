"""`cellfeat doctor`: what is installed, what runs, and the one line that installs what is missing."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata

from cellfeat import __version__
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
    "tensorboard": ("TensorBoard's view of Detectron2's training", "pip install tensorboard"),
}


def report() -> str:
    """Versions, devices, engine, data and missing options as lines for a terminal or a bug report."""
    return "\n".join([*_versions(), "", *_devices(), "", *_engine(), "", *_data(), "", *_options()])


def _versions() -> Iterator[str]:
    yield f"cellfeat      {__version__}"
    yield f"python        {platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        try:
            yield f"{name:13} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name:13} missing: pip install {name}"


def _devices() -> Iterator[str]:
    import torch

    yield f"CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads (OMP_NUM_THREADS)"
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield f"GPU {i}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}, but finds none" if torch.version.cuda else "for the CPU"
        yield f"no GPU: torch is built {built}; detectors run on the CPU whatever MODEL.DEVICE says"


def _engine() -> Iterator[str]:
    problem = detectron2_problem()
    yield f"engine: {choose_engine('auto')} ({problem or 'Detectron2 can be imported'})"
    if problem:
        yield "  the torchvision engine reads the same configs and checkpoints and gives the same numbers"
    else:
        import detectron2

        yield f"  detectron2 {detectron2.__version__} at {os.path.dirname(detectron2.__file__)}"


def _data() -> Iterator[str]:
    root = data_root()
    if not root.is_dir():
        yield f"data root: {root}, which does not exist: export CELLFEAT_DATASETS=/folder/of/datasets"
        return
    here = [name for name in dataset_names() if (root / name).is_dir()]
    yield f"data root: {root}, {len(here)} datasets ({', '.join(here) or 'none; see `cellfeat datasets`'})"


def _options() -> Iterator[str]:
    for module, (purpose, line) in OPTIONS.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # absent, or broken
            yield f"missing: {module} ({purpose}): {_repair(module, line, error)}"
        else:
            yield f"found:   {module} ({purpose})"


def _repair(module: str, line: str, error: Exception) -> str:
    """The line to type: a package that is there and fails for want of another needs that other one."""
    wanted = getattr(error, "name", None)
    if module == "detectron2" and wanted and wanted.split(".")[0] != "detectron2":
        return f"pip install {DETECTRON2_NEEDS}"
    return line
