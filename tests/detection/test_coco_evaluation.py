import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from cellfeat.core.files import read_json, write_json
from cellfeat.core.tensors import save_checkpoint
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.detection.coco_evaluation import METRICS, average_precision, evaluate_dataset
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.run_folder import mean_ap
from cellfeat.detection.structures import CellInstances
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.detection.train_net import scores_table, train_net


class PerfectDetector:
    """A detector that has read the answers, moved by `shift` px."""

    name = "perfect"
    feature_shape = (1, 1, 1)

    def __init__(self, coco, shift=0):
        self.shift = shift
        self.answers = {read_rgb(image["file_name"]).tobytes(): image["id"] for image in coco["images"]}
        self.annotations = coco["annotations"]

    def detect(self, images, um_per_px=None):
        return [self.cells(image) for image in images]

    def cells(self, image):
        mine = [a for a in self.annotations if a["image_id"] == self.answers[image.tobytes()]]
        masks = np.stack([np.roll(rle.decode(a["segmentation"]), self.shift, axis=1) for a in mine]).astype(bool)
        boxes = np.array([a["bbox"] for a in mine], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, [0, 2]] += self.shift
        return CellInstances(
            image.shape[:2], boxes, np.full(len(mine), 0.9, np.float32), masks, np.zeros((len(mine), 1, 1, 1))
        )


def test_right_answers_score_one_and_moved_ones_less(data_root):
    coco = open_dataset(data_root[0]).coco()
    right = evaluate_dataset(PerfectDetector(coco), data_root[0])
    moved = evaluate_dataset(PerfectDetector(coco, shift=8), data_root[0])
    for kind in ("bbox", "segm"):
        assert right[kind] == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
        assert moved[kind]["AP"] < 0.8
        assert moved[kind]["AP50"] > moved[kind]["AP75"]


def test_nothing_found_scores_nothing_and_nothing_to_find_has_no_score():
    image = {"id": 1, "height": 9, "width": 9}
    cell = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
    found = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}
    truth = {"images": [image], "annotations": [cell], "categories": [{"id": 1, "name": "WBC"}]}
    assert average_precision(truth, [], "bbox") == dict.fromkeys(METRICS, 0.0)
    for results in ([], [found]):
        assert average_precision({**truth, "annotations": []}, results, "bbox") == dict.fromkeys(METRICS)


def test_the_mean_is_over_the_test_sets_that_have_an_ap():
    whole, empty = {"bbox": {"AP": 0.5}, "segm": {"AP": 0.4}}, {"bbox": {"AP": None}, "segm": {"AP": None}}
    assert mean_ap({"a": whole, "b": empty}) == 0.4
    assert mean_ap({"b": empty}) is None
    assert mean_ap({"a": {"bbox": {"AP": 0.5}}}) == 0.5


@pytest.fixture
def evaluated(tmp_path, engine, tiny, monkeypatch):
    """Scores, by either engine, of an untrained detector on two images with these annotations."""

    def evaluated(*annotations):
        folder = tmp_path / "two"
        folder.mkdir()
        images = [{"id": i, "file_name": f"{i}.png", "height": 96, "width": 96} for i in (1, 2)]
        for image in images:
            Image.fromarray(np.full((96, 96, 3), 220, np.uint8)).save(folder / image["file_name"])
        coco = {"images": images, "annotations": list(annotations), "categories": [{"id": 1, "name": "WBC"}]}
        write_json(folder / "coco.json", coco)
        (folder / "dataset.yaml").write_text("coco: coco.json\n")
        monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
        config, weights = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml", tmp_path / "model.pth"
        save_checkpoint(weights, {"model": to_detectron2(MaskRCNN(load_config(config, tiny)).state_dict())})
        overrides = [*tiny, "MODEL.WEIGHTS", str(weights), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
        overrides += ["DATASETS.TEST", "('two',)", "OUTPUT_DIR", str(tmp_path / "run")]
        scores = train_net(config, overrides, eval_only=True, engine=engine)
        assert read_json(tmp_path / "run" / "evaluation.json") == scores
        return scores

    return evaluated


def annotation(number, **more):
    return {"id": number, "image_id": number, "category_id": 1, "bbox": [30, 30, 40, 40], "area": 1600, **more}


def test_a_set_without_reference_cells_has_no_ap(evaluated):
    scores = evaluated()
    assert scores == {"two": {"bbox": dict.fromkeys(METRICS), "segm": dict.fromkeys(METRICS)}}
    assert scores_table(scores).endswith("two: no reference cells, no AP")


def test_cells_with_a_box_and_no_mask_are_evaluated_by_boxes(evaluated, caplog):
    scores = evaluated(annotation(1), annotation(2, segmentation=[[30, 30, 70, 30, 70, 70, 30, 70]]))
    assert scores["two"].keys() == {"bbox"}
    assert 0 <= scores["two"]["bbox"]["AP"] <= 1
    assert "1 of 2 reference cells have a box and no mask" in caplog.text
