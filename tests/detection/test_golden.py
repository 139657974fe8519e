"""The torchvision engine computes Detectron2's numbers from Detectron2's weights."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_recipe import image, state_dict
from torchvision.ops import box_iou

from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.network_input import to_network
from cellfeat.detection.resize import network_size
from cellfeat.detection.torchvision_engine.engine import TorchvisionDetector

HERE = Path(__file__).parent / "golden"
ELSEWHERE = Path(os.environ.get("CELLFEAT_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
GROUP_NORM = [
    *("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.NORM", "GN", "MODEL.RESNETS.STRIDE_IN_1X1", "False"),
    *("MODEL.FPN.NORM", "GN", "MODEL.BACKBONE.FREEZE_AT", "0"),
]
CASES = {  # name: (config overrides, seed of the weights, short edge)
    "r50_fpn_gn_tiny": (GROUP_NORM, 11, 160),
    "r101_fpn": (["MODEL.RESNETS.DEPTH", "101"], 7, 400),
}
elsewhere = pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="CELLFEAT_GOLDEN names no folder of golden files")


def relative_error(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((HERE, "r50_fpn_gn_tiny"), id="r50_gn"),
        pytest.param((ELSEWHERE, "r50_fpn_gn_tiny"), id="r50_gn-whole", marks=[pytest.mark.golden, elsewhere]),
        pytest.param((ELSEWHERE, "r101_fpn"), id="r101", marks=[pytest.mark.golden, elsewhere]),
    ],
)
def case(request, tmp_path_factory):
    """Golden numbers, our detector from a checkpoint file with Detectron2's names, and the picture."""
    folder, name = request.param
    overrides, seed, edge = CASES[name]
    weights = tmp_path_factory.mktemp("weights") / "detectron2.pth"
    state = state_dict(folder / f"{name}.shapes.json", seed)
    save_checkpoint(weights, {"model": {key: torch.from_numpy(value) for key, value in state.items()}})
    settings = ["INPUT.MIN_SIZE_TEST", str(edge), "TEST.DETECTIONS_PER_IMAGE", "100", "MODEL.DEVICE", "cpu"]
    cfg = load_config(config_dir() / "Base-RCNN-FPN.yaml", [*overrides, *settings, "MODEL.WEIGHTS", str(weights)])
    golden = np.load(folder / f"{name}.npz")
    picture = golden["input_image"] if "input_image" in golden else image(160, 200, 11)
    return golden, TorchvisionDetector(cfg), picture


def test_network_input_and_p5(case):
    golden, detector, picture = case
    tensor = to_network(picture, network_size(detector.cfg, picture.shape[:2], None), "BGR")
    if "network_input" in golden:
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), golden["network_input"])
    with torch.inference_mode():
        batch = detector.model.batch([tensor])
        features = detector.model.backbone(batch.tensors)
        proposals, _ = detector.model.rpn(batch, features)
    assert relative_error(features["p5"][:, :8].numpy(), golden["p5"].reshape(1, 8, *features["p5"].shape[2:])) < 1e-5
    np.testing.assert_allclose(proposals[0][:200].numpy(), golden["proposal_boxes"], atol=1e-2)


def test_every_detection_is_found_with_its_score_mask_and_features(case):
    golden, detector, picture = case
    [cells] = detector.detect([picture])
    assert len(cells) == len(golden["boxes"]) == 100
    overlap, match = box_iou(torch.from_numpy(golden["boxes"]), torch.from_numpy(cells.boxes)).max(dim=1)
    assert (overlap >= 0.999).all()
    assert len(set(match.tolist())) == 100
    np.testing.assert_allclose(cells.scores[match], golden["scores"], atol=1e-5)
    for theirs, i in zip(golden["roi_features"], match.tolist(), strict=False):
        assert relative_error(cells.roi_features[i], theirs) < 1e-5
    width = picture.shape[1]
    for packed, i in zip(golden["masks"], match.tolist(), strict=False):
        mask = np.unpackbits(packed, axis=-1)[:, :width].astype(bool)
        assert (
            mask != cells.masks[i]
        ).mean() < 1e-4  # a pixel whose probability is 0.5 to the last bit may fall either way
