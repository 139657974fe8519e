"""Detectron2 as the engine: its numbers beside the torchvision engine's, and features that stay with their boxes."""

import sys

import numpy as np
import pytest
import torch
from golden_recipe import image, parameter

from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection import POOLS, build_detector, choose_engine
from cellfeat.detection.config import config_dir, get_cfg, load_config
from cellfeat.detection.resize import network_size
from cellfeat.errors import CellfeatError

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"
LOOSE = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "12"]
PICTURES = [image(height, width, seed) for seed, (height, width) in enumerate(((96, 128), (100, 70), (150, 140)))]
detectron2 = pytest.mark.detectron2


@pytest.fixture(scope="module")
def settings(tiny, tmp_path_factory):
    """Overrides that load one checkpoint, made by the recipe of the golden files."""
    from cellfeat.detection.torchvision_engine.model import MaskRCNN
    from cellfeat.detection.torchvision_engine.names import to_detectron2

    shapes = to_detectron2(MaskRCNN(load_config(CONFIG, tiny)).state_dict())
    state = {name: torch.from_numpy(parameter(name, tuple(value.shape), 5)) for name, value in shapes.items()}
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    save_checkpoint(path, {"model": state})
    return [*tiny, *LOOSE, "MODEL.WEIGHTS", str(path)]


@pytest.fixture
def detector(settings):
    return build_detector(load_config(CONFIG, settings), "detectron2")


@detectron2
@pytest.mark.parametrize("pool", POOLS)
def test_both_engines_find_the_same(settings, pool):
    cfg = load_config(CONFIG, settings)
    theirs, ours = (build_detector(cfg, engine, pool).detect(PICTURES) for engine in ("detectron2", "torchvision"))
    for one, other in zip(theirs, ours, strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.roi_features, other.roi_features, atol=1e-4)
        assert (one.masks != other.masks).mean() < 1e-4


@detectron2
@pytest.mark.parametrize("masks", [True, False])
def test_both_engines_find_the_same_cells_of_several_classes(tiny, tmp_path, masks):
    """To the last bit of boxes, scores and classes."""
    from cellfeat.detection.torchvision_engine.model import MaskRCNN
    from cellfeat.detection.torchvision_engine.names import to_detectron2

    several = [*tiny, *LOOSE, "MODEL.ROI_HEADS.NUM_CLASSES", "4", "MODEL.MASK_ON", str(masks)]
    shapes = to_detectron2(MaskRCNN(load_config(CONFIG, several)).state_dict())
    state = {name: torch.from_numpy(parameter(name, tuple(value.shape), 5)) for name, value in shapes.items()}
    save_checkpoint(tmp_path / "model.pth", {"model": state})
    cfg = load_config(CONFIG, [*several, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    theirs, ours = (build_detector(cfg, engine).detect(PICTURES) for engine in ("detectron2", "torchvision"))
    for one, other in zip(theirs, ours, strict=True):
        assert len(one) == len(other) > 0
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.masks.shape == other.masks.shape
        assert (one.masks != other.masks).sum() <= 1e-4 * one.masks.size
    assert len(np.unique(np.concatenate([cells.classes for cells in ours]))) > 1


def feature_maps(detector):
    """Levels P2 to P5 of the next image that the detector sees, by its backbone."""
    seen = []
    detector.model.backbone.register_forward_hook(lambda module, inputs, maps: seen.append(maps))
    return seen


def assert_features_are_those_of_the_boxes(detector, picture, maps, cells):
    """Pool again at the boxes that came back, and compare."""
    from detectron2.structures import Boxes

    height, width = picture.shape[:2]
    rows, columns = network_size(detector.cfg, (height, width), None)
    boxes = Boxes(torch.from_numpy(cells.boxes * np.float32([columns / width, rows / height] * 2)))
    heads = detector.model.roi_heads
    with torch.inference_mode():
        expected = heads.mask_pooler([maps[0][level] for level in heads.in_features], [boxes])
    assert len(cells) > 0
    np.testing.assert_allclose(cells.roi_features, expected.numpy(), atol=1e-3)
    assert np.abs(expected.numpy() - expected.numpy()[::-1])[0].max() > 1e-2  # cells do differ


def spoil(detector, change):
    """Change the box predictor's boxes, (R, 4) an image, before Detectron2 filters them."""
    predictor = detector.model.roi_heads.box_predictor
    original = predictor.predict_boxes

    def spoilt(predictions, proposals):
        boxes = [each.clone() for each in original(predictions, proposals)]
        for each in boxes:
            change(each)
        return boxes

    predictor.predict_boxes = spoilt


def not_finite(boxes):
    boxes[::3] = float("nan")
    boxes[1::5] = float("inf")


def empty(boxes):
    boxes[::2, 2] = boxes[::2, 0]


def outside(boxes):  # clipped to the image, nothing of them is left
    boxes[::2] += 1000


@detectron2
@pytest.mark.parametrize("change", [lambda boxes: None, not_finite, empty, outside])
def test_features_stay_with_their_boxes(detector, change):
    picture = PICTURES[0]
    [whole] = detector.detect([picture])
    spoil(detector, change)
    maps = feature_maps(detector)
    [cells] = detector.detect([picture])
    assert (len(cells) < len(whole)) == (change in (empty, outside))
    assert np.isfinite(cells.boxes).all()
    assert_features_are_those_of_the_boxes(detector, picture, maps, cells)


@detectron2
def test_an_image_without_cells(detector):
    spoil(detector, lambda boxes: boxes.fill_(float("nan")))
    for cells in detector.detect(PICTURES):
        assert len(cells) == 0
        assert cells.roi_features.shape == (0, *detector.feature_shape)
        assert cells.masks.shape == (0, *cells.image_size)


@detectron2
def test_mask_and_features_come_from_one_pooling(detector):
    calls = []
    detector.model.roi_heads.mask_pooler.register_forward_hook(lambda *_: calls.append(1))
    detector.detect(PICTURES[:1])
    assert len(calls) == 1


@detectron2
def test_the_head_serves_plain_detectron2(settings):
    from detectron2.config import get_cfg as detectron2_cfg
    from detectron2.modeling import build_model

    from cellfeat.detection.detectron2_engine import CellROIHeads, add_cellfeat_config

    cfg = detectron2_cfg()
    add_cellfeat_config(cfg)
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list([*settings, "MODEL.ROI_HEADS.NAME", "CellROIHeads", "MODEL.ROI_HEADS.POOL", "box"])
    model = build_model(cfg).eval()
    assert isinstance(model.roi_heads, CellROIHeads)
    with torch.no_grad():
        [output] = model([{"image": torch.zeros(3, 64, 64), "height": 32, "width": 32}])
    assert output["instances"].roi_features.shape[1:] == (32, 7, 7)


@detectron2
def test_training_is_that_of_the_standard_heads(settings):
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg

    truth = Instances((64, 64), gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 44]])), gt_classes=torch.zeros(1).long())
    truth.gt_masks = BitMasks(torch.ones(1, 64, 64, dtype=torch.bool))
    losses = []
    for name in ("StandardROIHeads", "CellROIHeads"):
        cfg = to_detectron2_cfg(load_config(CONFIG, settings)).clone()
        cfg.defrost()
        cfg.MODEL.ROI_HEADS.NAME = name
        torch.manual_seed(0)
        model = build_model(cfg).train()
        with EventStorage():
            losses.append(model([{"image": torch.full((3, 64, 64), 90.0), "instances": truth}]))
    assert {key: value.item() for key, value in losses[0].items()} == {k: v.item() for k, v in losses[1].items()}


@detectron2
@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"), ("INPUT.CROP.ENABLED", "True"), ("TEST.AUG.ENABLED", "True")],
)
def test_what_is_not_supported_is_refused_by_name(settings, key, value):
    with pytest.raises(CellfeatError, match=key.replace(".", r"\.")):
        build_detector(load_config(CONFIG, [*settings, key, value]), "detectron2")


@detectron2
def test_auto_is_detectron2_where_it_can_be_imported():
    assert choose_engine("auto") == "detectron2"


def test_without_detectron2_auto_is_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    assert choose_engine("auto") == "torchvision"
    with pytest.raises(CellfeatError, match="cellfeat doctor"):
        build_detector(get_cfg(), "detectron2")


@detectron2
def test_datasets_are_registered_once_however_often(data_root):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from cellfeat.detection.detectron2_engine.datasets import register_datasets

    for _ in range(2):
        register_datasets([f"{data_root[0]}@train"])
    dicts = DatasetCatalog.get(f"{data_root[0]}@train")
    assert {"file_name", "image_id", "height", "width", "annotations"} <= dicts[0].keys()
    assert all("segmentation" in annotation for each in dicts for annotation in each["annotations"])
    assert MetadataCatalog.get(f"{data_root[0]}@train").thing_classes == ["WBC"]
