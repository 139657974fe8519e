"""A detector for dumps."""

import pytest
import torch
from dump_helpers import CONFIG

from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection.config import load_config
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2


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
