import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import resnet18
from torchvision.models.detection import maskrcnn_resnet50_fpn

from cellfeat.detection.checkpoint import load_weights, read_state
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.convert_weights import convert_weights
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.errors import CellfeatError

R18 = ["MODEL.RESNETS.NORM", "BN"]


def shapes(config, overrides=()):
    model = MaskRCNN(load_config(config_dir() / config, list(overrides)))
    return {name: tuple(value.shape) for name, value in to_detectron2(model.state_dict()).items()}


@pytest.fixture(scope="module")
def torchvision_detector():
    torch.manual_seed(0)
    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).state_dict()


def old_names(state):
    """torchvision's names before its version 0.14, which its published COCO weights still have."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for block in ("inner", "layer"):
            for k in range(4):
                name = name.replace(f"{block}_blocks.{k}.0.", f"{block}_blocks.{k}.")
        for k in range(4):
            name = name.replace(f"roi_heads.mask_head.{k}.0.", f"roi_heads.mask_head.mask_fcn{k + 1}.")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("names", [dict, old_names])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_torchvision_detector_fits_a_config(tmp_path, torchvision_detector, names, suffix):
    torch.save(names(torchvision_detector), tmp_path / "coco.pth")
    note = convert_weights(str(tmp_path / "coco.pth"), tmp_path / f"out{suffix}")
    assert "INPUT.FORMAT RGB" in note
    read = load_weights(
        str(tmp_path / f"out{suffix}"),
        shapes("wbc_mask_rcnn_R_50_FPN.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.RESNETS.NORM", "BN"]),
    )
    scores = torchvision_detector["roi_heads.box_predictor.cls_score.bias"]  # background, class 1, class 2
    torch.testing.assert_close(read["roi_heads.box_predictor.cls_score.bias"], scores[[1, 2, 0]])
    boxes = torchvision_detector["roi_heads.box_predictor.bbox_pred.weight"]
    torch.testing.assert_close(read["roi_heads.box_predictor.bbox_pred.weight"], boxes[4:])


def test_a_torchvision_resnet_fills_the_backbone(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "r18.pth")
    convert_weights(str(tmp_path / "r18.pth"), tmp_path / "out.pth")
    expected = shapes("wbc_mask_rcnn_R_18_FPN_tiny.yaml", R18)
    read = load_weights(str(tmp_path / "out.pth"), expected)
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    assert set(read) | counters >= {name for name in expected if name.startswith("backbone.bottom_up.")}


def test_a_checkpoint_goes_both_ways_unchanged(tmp_path):
    state = {"backbone.fpn_lateral2.weight": torch.randn(2, 2), "roi_heads.box_head.fc1.bias": torch.randn(3)}
    torch.save({"model": state, "iteration": 3}, tmp_path / "a.pth")
    convert_weights(str(tmp_path / "a.pth"), tmp_path / "b.safetensors")
    convert_weights(str(tmp_path / "b.safetensors"), tmp_path / "c.pth")
    assert load_file(tmp_path / "b.safetensors").keys() == state.keys()
    for name, value in read_state(tmp_path / "c.pth").items():
        torch.testing.assert_close(value, state[name])


@pytest.mark.parametrize(
    ("state", "target", "words"),
    [
        ({"encoder.weight": torch.zeros(1)}, "out.pth", "no names of a detector"),
        ({"roi_heads.x": torch.zeros(1), "backbone.y": torch.zeros(1)}, "out.onnx", r"\.pth or \.safetensors"),
    ],
)
def test_what_is_no_detector_is_refused(tmp_path, state, target, words):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CellfeatError, match=words):
        convert_weights(str(tmp_path / "w.pth"), tmp_path / target)
    assert not (tmp_path / target).exists()
