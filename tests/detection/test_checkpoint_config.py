import pytest

from cellfeat.core.files import write_text
from cellfeat.detection.checkpoint_config import config_of_checkpoint

TINY = "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of the tiny detector that was trained with another NMS threshold, its config.yaml beside it."""
    cfg = config_of_checkpoint(TINY, ["MODEL.RPN.NMS_THRESH", "0.6", "OUTPUT_DIR", str(tmp_path)])
    write_text(tmp_path / "config.yaml", cfg.dump())
    (tmp_path / "model_final.pth").write_bytes(b"")
    return str(tmp_path / "model_final.pth")


def test_the_config_beside_a_checkpoint_is_used(weights, tmp_path):
    cfg = config_of_checkpoint(None, ["MODEL.WEIGHTS", weights, "TEST.DETECTIONS_PER_IMAGE", "7"])
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RPN.NMS_THRESH, cfg.TEST.DETECTIONS_PER_IMAGE) == (18, 0.6, 7)
    assert weights == cfg.MODEL.WEIGHTS
    assert str(tmp_path) != cfg.OUTPUT_DIR  # an evaluation leaves the training's results as they are


def test_another_config_is_used_with_a_warning(weights, caplog):
    assert config_of_checkpoint(TINY, ["MODEL.WEIGHTS", weights]).MODEL.RPN.NMS_THRESH == 0.7
    assert "was trained with MODEL.RPN.NMS_THRESH = 0.6" in caplog.text


def test_the_same_config_is_used_without_a_word(weights, caplog):
    config_of_checkpoint(TINY, ["MODEL.WEIGHTS", weights, "MODEL.RPN.NMS_THRESH", "0.6"])
    assert caplog.text == ""


def test_without_a_config_beside_it_the_papers_detector_is_the_default(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"")
    cfg = config_of_checkpoint(None, ["MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    assert cfg.MODEL.RESNETS.DEPTH == 101
