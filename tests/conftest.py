"""What many tests need: no GPU, few threads, a small detector and small synthetic sites."""

import os
import sys
from pathlib import Path

import pytest
import torch

from cellfeat.data.synthetic import write_sites
from cellfeat.detection import detectron2_problem

os.environ["NUMBA_NUM_THREADS"] = "1"  # UMAP's numba sets the threads of OpenMP for PyTorch as well

TINY = [  # the smallest network that is still a Mask R-CNN with FPN
    *("MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "32", "MODEL.ROI_MASK_HEAD.NUM_CONV", "1", "SOLVER.AMP.ENABLED", "False"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SEED", "0"),
]

FORKING = {"faults", "fuzz"}  # folders of tests


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """A data root with the three synthetic sites, 13 images each: (root, names)."""
    root = tmp_path_factory.mktemp("datasets")
    return root, write_sites(root, images_per_site=13)


@pytest.fixture
def data_root(sites, monkeypatch):
    """CELLFEAT_DATASETS set to the synthetic sites; yields their names."""
    root, names = sites
    monkeypatch.setenv("CELLFEAT_DATASETS", str(root))
    return names


@pytest.fixture
def subprocess_env(sites):
    """Environment of a child that computes what this process does: sums depend on the number of threads."""
    return {**os.environ, "CELLFEAT_DATASETS": str(sites[0]), "OMP_NUM_THREADS": str(torch.get_num_threads())}


@pytest.fixture(scope="session")
def tiny():
    """KEY VALUE overrides that make the tiny config tinier still."""
    return list(TINY)


@pytest.fixture(scope="session")
def narrow(tiny):
    """The same with a quarter of the ResNet's width, for what is trained."""
    return [*tiny, "MODEL.BACKBONE.NAME", "build_narrow_resnet_fpn_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"]


def pytest_collection_modifyitems(items):
    """Tests that need Detectron2, or to fork, skip where that is not possible, saying why."""
    marked = [item for item in items if item.get_closest_marker("detectron2")]
    if marked and (problem := detectron2_problem()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=problem))
    if not hasattr(os, "fork"):
        for item in items:
            if FORKING & set(item.path.relative_to(Path(__file__).parent).parts):
                item.add_marker(pytest.mark.skip(reason="faults and faulty inputs are tried in forked processes"))


@pytest.fixture(params=["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def engine(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture
def ray(monkeypatch):
    """Workers find what this process imports."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'cellfeat[ray]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if Path(path or ".").is_dir()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would not let them begin
    return module


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What tests measure is not kept in the user's cache."""
    os.environ["CELLFEAT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """On busy cores a second thread waits: a step of ResNet-18 on 16 small crops took 2.4 s of CPU, with one 0.35 s."""
    torch.set_num_threads(1)
