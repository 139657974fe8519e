"""What a training's folder says before it begins, and what a diverged one leaves behind."""

from __future__ import annotations

import os
import re

import pytest

from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.run_folder import (
    BEST,
    FINAL,
    MARKER,
    METRICS,
    SCORES,
    begin,
    check_folder,
    cut_metrics,
    discard_worthless_best,
)
from cellfeat.errors import CellfeatError


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            "wbc_mask_rcnn_R_101_FPN",
            "NORM is FrozenBN: .* such a training diverges; give ImageNet weights",
        ),
        ("wbc_faster_rcnn_VGG16_FPN", "VGG-16 has no norms: .* give torchvision's ImageNet weights"),
    ],
)
def test_a_training_from_random_weights_says_beforehand_what_to_do(tmp_path, caplog, config, words):
    given = ["MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path)]
    begin(load_config(config_dir() / f"{config}.yaml", given), 0)
    assert len(caplog.messages) == 1
    assert re.search(words, caplog.messages[0])


@pytest.mark.parametrize("content", [b"", b"\0" * 15, b"\xff.pth", b"/etc/passwd", b"../model_final.pth", b"x" * 10**6])
def test_a_marker_that_names_no_checkpoint_is_one_line(tmp_path, content):
    (tmp_path / FINAL).write_bytes(b"weights")
    (tmp_path / MARKER).write_bytes(content)
    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", ["OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(CellfeatError, match=r"last_checkpoint: names no checkpoint; write the name of one"):
        check_folder(cfg, resume=True)


def test_a_training_that_lost_its_model_is_not_finished(tmp_path):
    cfg = load_config(config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", ["OUTPUT_DIR", str(tmp_path)])
    begin(cfg, 1)
    (tmp_path / MARKER).write_text(FINAL)
    (tmp_path / SCORES).write_text("{}")
    (tmp_path / FINAL).write_bytes(b"weights")
    assert check_folder(cfg, resume=True)
    (tmp_path / FINAL).unlink()
    assert not check_folder(cfg, resume=True)


def test_a_log_that_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(CellfeatError, match=r"metrics\.json: a folder or a device, not a log; remove it"):
        cut_metrics(tmp_path / METRICS, 0)


def test_a_diverged_training_leaves_no_best_model_that_finds_nothing(tmp_path):
    for ap, kept in ((None, False), (0.0, False), (12.5, True)):
        (tmp_path / BEST).write_bytes(b"weights")
        (tmp_path / MARKER).write_text(BEST)
        discard_worthless_best(tmp_path, ap)
        assert (tmp_path / BEST).exists() == (tmp_path / MARKER).exists() == kept
