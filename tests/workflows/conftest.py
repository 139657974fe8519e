"""A detector for dumps, and forests that cost little."""

import pytest
import torch
from dump_helpers import CONFIG

from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection.config import load_config
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.evaluation import separation


@pytest.fixture(scope="session")
def weights(tmp_path_factory, tiny):
    """A random detector's checkpoint."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    save_checkpoint(path, {"model": to_detectron2(MaskRCNN(load_config(CONFIG, tiny)).state_dict())})
    return path


@pytest.fixture
def cfg(tiny, weights):
    return load_config(CONFIG, [*tiny, "MODEL.WEIGHTS", str(weights), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"])


@pytest.fixture(scope="module", autouse=True)
def _few_trees():
    """The forests that tell how far apart domains lie took half of an evaluation's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separation, "TREES", 5)
        yield
