"""The detector that comes with the package, as a user of `cellfeat dump FOLDER` meets it."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cellfeat.cli import main
from cellfeat.data.synthetic import SITES, draw_cell_image
from cellfeat.detection import build_detector, checkpoint
from cellfeat.detection.checkpoint import BUILT_IN, BUILT_IN_FILE, resolve_weights
from cellfeat.detection.checkpoint_config import config_of_checkpoint
from cellfeat.errors import Damaged
from cellfeat.store import Store


@pytest.fixture(scope="module", params=["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def detector(request):
    return build_detector(config_of_checkpoint(None, ["MODEL.DEVICE", "cpu"]), request.param)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_it_finds_and_outlines_the_drawn_cell_of_every_site(detector, site):
    image, masks = draw_cell_image(site, "monocyte", np.random.default_rng(2))
    (cells,) = detector.detect([image], [None])
    assert cells.scores[0] > 0.8
    y, x = np.nonzero(masks[0])
    box = torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=torch.float32)
    found = int(box_iou(box, torch.from_numpy(cells.boxes))[0].argmax())
    overlap = (cells.masks[found] & masks[0]).sum() / (cells.masks[found] | masks[0]).sum()
    assert overlap > 0.8


def test_a_folder_of_pictures_is_all_that_a_dump_needs(tmp_path):
    folder = tmp_path / "smears"
    folder.mkdir()
    for k in range(2):
        image, _ = draw_cell_image(SITES[k], "lymphocyte", np.random.default_rng(k))
        cv2.imwrite(str(folder / f"{k}.png"), image[..., ::-1])
    with pytest.raises(SystemExit) as ended:
        main(["dump", str(folder), "--no-pictures", "--engine", "torchvision", "--output", str(tmp_path / "store")])
    assert ended.value.code == 0
    assert (Store(tmp_path / "store").images()["cells"] == 1).all()


def test_its_features_are_those_that_aecfe_reads(detector):
    image, _ = draw_cell_image(SITES[0], "lymphocyte", np.random.default_rng(1))
    (cells,) = detector.detect([image], [None])
    assert cells.roi_features.shape[1:] == (256, 14, 14)


def test_it_is_small_enough_to_travel_with_the_package():
    assert BUILT_IN_FILE.stat().st_size < 25e6
    assert resolve_weights(BUILT_IN) == BUILT_IN_FILE


def test_a_changed_file_is_not_used(tmp_path, monkeypatch):
    changed = tmp_path / "wbc_builtin.safetensors"
    changed.write_bytes(BUILT_IN_FILE.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(checkpoint, "BUILT_IN_FILE", changed)
    with pytest.raises(Damaged, match="changed; install cellfeat again"):
        resolve_weights(BUILT_IN)
