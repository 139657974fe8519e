import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.vgg import cfgs, make_layers

from cellfeat.core.files import write_json
from cellfeat.data.catalogue import open_dataset
from cellfeat.detection.classes import class_names, reference_coco, with_classes
from cellfeat.detection.coco_evaluation import average_precision
from cellfeat.detection.config import config_dir, load_config, portable
from cellfeat.detection.torchvision_engine.engine import TorchvisionDetector
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.detection.train_net import scores_table, train
from cellfeat.errors import CellfeatError

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"
CELLS = {1: ["lymphocyte", "monocyte"], 2: ["lymphocyte"], 3: ["hairy cell"], 4: ["monocyte"]}  # of each image


@pytest.fixture
def root(tmp_path):
    """A data root with one COCO dataset: four images, cells of three classes, boxes alone."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    names = sorted({name for cells in CELLS.values() for name in cells})
    images = [{"id": i, "file_name": f"{i}.png", "height": 96, "width": 96} for i in CELLS]
    annotations = [
        {"image_id": i, "category_id": names.index(name) + 1, "bbox": [8 + 40 * k, 20, 32, 32], "iscrowd": 0}
        for i, cells in CELLS.items()
        for k, name in enumerate(cells)
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    for image in images:
        pixels = np.random.default_rng(image["id"]).integers(150, 255, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / image["file_name"])
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    write_json(folder / "coco.json", {"images": images, "annotations": annotations, "categories": categories})
    (folder / "dataset.yaml").write_text(f"coco: coco.json\ncoco_categories: [{', '.join(names)}]\n")
    return tmp_path


@pytest.fixture
def cfg(tiny, tmp_path):
    def cfg(**more):
        values = {
            "OUTPUT_DIR": tmp_path / "run",
            "MODEL.MASK_ON": False,
            "MODEL.ROI_HEADS.NUM_CLASSES": 3,
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
            "TEST.DETECTIONS_PER_IMAGE": 4,
            "DATASETS.TRAIN": ("mixed",),
            "DATASETS.TEST": ("mixed",),
            "SOLVER.MAX_ITER": 1,
            "SOLVER.IMS_PER_BATCH": 2,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return load_config(CONFIG, [*tiny, *(str(part) for pair in values.items() for part in pair)])

    return cfg


def test_cells_are_named_by_their_annotations_or_by_the_label_of_their_image(root, sites):
    assert open_dataset("mixed", root).cell_classes() == [name for cells in CELLS.values() for name in cells]
    site = open_dataset(sites[1][0], sites[0])
    labels = {record.image_id: record.label for record in site.records()}
    coco = site.coco()
    image_ids = {image["id"]: image["image_id"] for image in coco["images"]}
    assert site.cell_classes() == [labels[image_ids[cell["image_id"]]] for cell in coco["annotations"]]


def test_classes_come_from_the_datasets_or_from_the_config(root, cfg):
    named = with_classes(cfg(), ["mixed"], root)
    assert class_names(named) == ("hairy cell", "lymphocyte", "monocyte")
    given = cfg(MODEL__ROI_HEADS__NUM_CLASSES=2, MODEL__ROI_HEADS__CLASSES=("monocyte", "lymphocyte"))
    assert class_names(with_classes(given, ["mixed"], root)) == ("monocyte", "lymphocyte")
    one = cfg(MODEL__ROI_HEADS__NUM_CLASSES=1)
    assert class_names(with_classes(one, ["mixed"], root)) == ("WBC",)
    assert "CLASSES: " not in portable(one).replace("NUM_CLASSES: ", "")  # stores made before the key was go on


@pytest.mark.parametrize("number", [2, 4])
def test_another_number_of_classes_is_refused(root, cfg, number):
    with pytest.raises(CellfeatError, match=rf"NUM_CLASSES is {number}, but mixed: .* 3 classes .*set it to 3"):
        with_classes(cfg(MODEL__ROI_HEADS__NUM_CLASSES=number), ["mixed"], root)


def test_images_with_cells_of_other_classes_are_left_out_and_counted(root, caplog):
    coco = reference_coco("mixed", ("monocyte", "lymphocyte"), root)
    assert coco["categories"] == [{"id": 1, "name": "monocyte"}, {"id": 2, "name": "lymphocyte"}]
    assert [image["id"] for image in coco["images"]] == [1, 2, 4]
    assert [cell["category_id"] for cell in coco["annotations"]] == [2, 1, 2, 1]
    assert "mixed: 1 of 4 images left out, with cells of hairy cell" in caplog.text
    with pytest.raises(CellfeatError, match="every image has cells of other classes"):
        reference_coco("mixed", ("platelet", "band"), root)


def test_each_class_has_its_ap(root):
    truth = reference_coco("mixed", ("hairy cell", "lymphocyte", "monocyte", "band"), root)
    right = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]
    for result in right:
        if result["category_id"] == 3:  # every monocyte is taken for a lymphocyte
            result["category_id"] = 2
    scores = average_precision(truth, right, "bbox")
    assert scores["AP-hairy cell"] == pytest.approx(1)
    assert 0 < scores["AP-lymphocyte"] < 1
    assert scores["AP-monocyte"] == 0
    assert scores["AP-band"] is None
    assert scores["AP"] == pytest.approx((1 + scores["AP-lymphocyte"]) / 3)  # over the classes that have cells


def test_a_detector_of_several_classes_is_trained_and_evaluated(root, cfg, engine):
    """As a Faster R-CNN on boxes alone."""
    scores = train(cfg(), engine=engine, data_root=root)
    assert scores["mixed"].keys() == {"bbox"}
    assert "AP50" in scores["mixed"]["bbox"]
    state = torch.load(root / "run" / "model_final.pth", weights_only=True)["model"]
    assert state["roi_heads.box_predictor.cls_score.weight"].shape[0] == 4
    assert class_names(load_config(root / "run" / "config.yaml")) == ("hairy cell", "lymphocyte", "monocyte")
    assert "mixed" in scores_table(scores)


VGG = ("MODEL.BACKBONE.NAME", "build_vgg16_fpn_backbone", "MODEL.FPN.NORM", "")


def test_vgg_16_starts_from_torchvisions_weights_and_predicts_classes(tiny, tmp_path):
    """The config of WBC-Profiler's baseline, at the tiny config's size."""
    features = make_layers(cfgs["D"]).eval()  # of torchvision's VGG-16, whose file has a classifier too
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg16.pth")
    settings = [*tiny, *VGG, "MODEL.WEIGHTS", str(tmp_path / "vgg16.pth"), "MODEL.ROI_HEADS.NUM_CLASSES", "6"]
    config = config_dir() / "wbc_faster_rcnn_VGG16_FPN.yaml"
    detector = TorchvisionDetector(load_config(config, [*settings, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]))
    body = detector.model.backbone.body.eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, expected = body(x), features(x)
    assert torch.equal(maps["res5"], expected)
    assert [tuple(one.shape[1:]) for one in maps.values()] == [(256, 16, 16), (512, 8, 8), (512, 4, 4), (512, 2, 2)]
    (cells,) = detector.detect([np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)])
    assert cells.masks.shape[0] == 0
    assert set(cells.classes) <= set(range(6))
    frozen = {name.split(".")[1] for name, one in body.named_parameters() if not one.requires_grad}
    assert frozen == {"0", "2", "5", "7"}  # conv1_1 to conv2_2


@pytest.mark.detectron2
def test_vgg_16_is_the_same_in_both_engines(tiny):
    from detectron2.modeling import build_model

    from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg

    cfg = load_config(CONFIG, [*tiny, *VGG, "MODEL.MASK_ON", "False"])
    ours, theirs = MaskRCNN(cfg).eval(), build_model(to_detectron2_cfg(cfg)).eval()
    theirs.load_state_dict(to_detectron2(ours.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for name, one in theirs.backbone(x).items():
            torch.testing.assert_close(ours.backbone(x)[name], one, rtol=1e-4, atol=1e-5)
