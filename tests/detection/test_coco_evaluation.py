import numpy as np
import pytest
from pycocotools import mask as rle

from cellfeat.data.catalogue import open_dataset
from cellfeat.data.images import read_rgb
from cellfeat.detection.coco_evaluation import average_precision, evaluate_dataset
from cellfeat.detection.structures import CellInstances


class Oracle:
    """A detector that has read the answers, moved by `shift` px."""

    name = "oracle"
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
    right = evaluate_dataset(Oracle(coco), data_root[0])
    moved = evaluate_dataset(Oracle(coco, shift=8), data_root[0])
    for kind in ("bbox", "segm"):
        assert right[kind] == pytest.approx({"AP": 1.0, "AP50": 1.0, "AP75": 1.0})
        assert moved[kind]["AP"] < 0.8
        assert moved[kind]["AP50"] > moved[kind]["AP75"]


def test_nothing_found_scores_nothing():
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "WBC"}]}
    assert average_precision(truth, [], "bbox") == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
