"""What Detectron2's trainer adds to training: its evaluator, validation losses, pictures, several processes."""

import json
import shutil

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from cellfeat.data.catalogue import open_dataset
from cellfeat.data.outside import outside_allowed
from cellfeat.detection import train_net
from cellfeat.detection.classes import reference_coco
from cellfeat.detection.coco_evaluation import average_precision, to_coco_results
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.structures import CellInstances

pytestmark = pytest.mark.detectron2
CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


@pytest.fixture
def cfg(tiny, data_root, tmp_path):
    """Three iterations of two images, evaluated after the second and the last."""
    values = {
        "OUTPUT_DIR": tmp_path,
        "SOLVER.MAX_ITER": 3,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.AMP.ENABLED": True,
        "TEST.EVAL_PERIOD": 2,
        "DATASETS.TRAIN": (f"{data_root[0]}@train",),
        "DATASETS.TEST": (f"{data_root[0]}@val", f"{data_root[1]}@val"),
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "TEST.DETECTIONS_PER_IMAGE": 4,
    }
    return load_config(CONFIG, [*tiny, *(str(part) for pair in values.items() for part in pair)])


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def predictions(folder, name):
    """COCO results that an evaluation left, in one order whatever the ranks."""
    results = json.loads((folder / "inference" / name / "coco_instances_results.json").read_text())
    return sorted(results, key=lambda result: (result["image_id"], -result["score"], result["bbox"]))


def test_a_run_leaves_scores_losses_and_pictures_of_its_test_sets(cfg, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scores = train_net.train(cfg, engine="detectron2")
    assert scores.keys() == set(cfg.DATASETS.TEST)
    logged = {key: value for line in lines(tmp_path) for key, value in line.items()}
    for name in cfg.DATASETS.TEST:
        assert logged[f"{name}/segm/AP50"] == scores[name]["segm"]["AP50"]
        assert predictions(tmp_path, name)
    for name in ("loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"):
        assert logged[f"validation/{name}"] > 0
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    steps = {(tag, event.step) for tag in events.Tags()["images"] for event in events.Images(tag)}
    assert {(f"{name}/0", step) for name in cfg.DATASETS.TEST for step in (1, 2)} <= steps


def test_the_best_checkpoint_is_that_of_the_best_mask_ap(cfg, tmp_path, monkeypatch):
    from cellfeat.detection.detectron2_engine.seeded_trainer import Trainer

    mask_ap = iter([0.7, 0.4])

    def test(cls, cfg, model):
        return {"site": {"bbox": {"AP": 0.1}, "segm": {"AP": next(mask_ap)}}}

    monkeypatch.setattr(Trainer, "test", classmethod(test))
    train_net.train(cfg, engine="detectron2")
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 1


def test_two_processes_train_and_evaluate_as_one_does(cfg, tmp_path, monkeypatch):
    """Spawned processes know no dataset until `main` has registered it."""
    from cellfeat.detection.detectron2_engine.processes import launch_processes
    from cellfeat.detection.detectron2_engine.seeded_trainer import main

    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # of the ranks: sums depend on it
    launch_processes(main, 2, cfg, False, False)
    assert {line["iteration"] for line in lines(tmp_path)} >= {1, 2}
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(tmp_path / "model_final.pth"), str(tmp_path / "one")
    assert train_net.evaluate(cfg, "detectron2").keys() == set(cfg.DATASETS.TEST)
    for name in cfg.DATASETS.TEST:
        two, one = predictions(tmp_path, name), predictions(tmp_path / "one", name)
        assert len(two) == len(one) > 0
        for mine, other in zip(two, one, strict=True):
            assert mine["image_id"] == other["image_id"]
            assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
            assert mine["bbox"] == pytest.approx(other["bbox"], abs=1e-2)


@pytest.mark.slow
def test_two_processes_learn_from_a_batch_as_one_does(tmp_path, sites, narrow, monkeypatch):
    """Nothing is drawn, and each picture has one cell and as many boxes as the others: Detectron2's losses are means
    over the samples of a process."""
    from cellfeat.detection.detectron2_engine.processes import launch_processes
    from cellfeat.detection.detectron2_engine.seeded_trainer import main

    root, (name, *_) = sites
    shutil.copytree(root / name, tmp_path / name)
    coco = json.loads((tmp_path / name / "coco.json").read_text())
    coco["annotations"] = list({one["image_id"]: one for one in coco["annotations"]}.values())
    (tmp_path / name / "coco.json").write_text(json.dumps(coco))
    values = {
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": 1,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.AMP.ENABLED": False,
        "DATASETS.TEST": (),
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 10_000,
        "MODEL.RPN.NMS_THRESH": 1.0,
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 10_000,
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.999],
    }
    given = [*narrow, *(str(part) for pair in values.items() for part in pair)]
    given += ["DATASETS.TRAIN", str((f"{name}@train",))]
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    trained = []
    for processes in (1, 2):
        folder = tmp_path / f"{processes}"
        cfg = load_config(CONFIG, [*given, "OUTPUT_DIR", str(folder)])
        launch_processes(main, processes, cfg, False, False, tmp_path)
        trained.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=0, atol=1e-6, msg=name)


def test_launch_gets_the_arguments_of_the_command_line(monkeypatch, cfg, tmp_path):
    from cellfeat.cli import main
    from cellfeat.detection.detectron2_engine import processes

    calls = []
    monkeypatch.setattr(processes, "launch", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    arguments = ["--num-gpus", "4", "--num-machines", "2", "--machine-rank", "1", "--dist-url", "tcp://host:1234"]
    arguments += ["--engine", "detectron2"]
    with pytest.raises(SystemExit) as ended:
        main(["--allow-outside", "train-net", "--config-file", str(tmp_path / "cfg.yaml"), *arguments])
    assert ended.value.code == 0
    [(run, *where, (outside, handed_on, _, passed, resume, eval_only, _))] = calls
    assert where == [4, 2, 1, "tcp://host:1234"]
    assert (passed.MODEL.DEVICE, resume, eval_only) == ("cuda", False, False)
    seen: list[bool] = []
    run(outside, handed_on, lambda: seen.append(outside_allowed()))  # as the new process does
    assert seen == [True]
    assert not outside_allowed()


def guess(truth, image, rng):
    """Cells near the true ones: moved, doubled, missed, of any score."""
    mine = [a for a in truth["annotations"] if a["image_id"] == image["id"] for _ in range(2) if rng.random() < 0.7]
    shifts = rng.integers(-6, 7, len(mine))
    masks = np.zeros((len(mine), image["height"], image["width"]), bool)
    boxes = np.zeros((len(mine), 4), np.float32)
    for i, (annotation, shift) in enumerate(zip(mine, shifts, strict=True)):
        masks[i] = np.roll(rle.decode(annotation["segmentation"]), shift, axis=1)
        x, y, width, height = annotation["bbox"]
        boxes[i] = x + shift, y, x + shift + width, y + height
    scores = np.sort(rng.random(len(mine)).astype(np.float32))[::-1].copy()
    right = np.array([annotation["category_id"] - 1 for annotation in mine], np.int64)
    classes = np.where(rng.random(len(mine)) < 0.8, right, rng.integers(len(truth["categories"]), size=len(mine)))
    return CellInstances(masks.shape[1:], boxes, scores, masks, np.zeros((len(mine), 1, 1, 1)), classes)


@pytest.mark.parametrize("several", [False, True])
def test_coco_evaluator_gives_the_figures_of_our_own(cfg, several):
    from detectron2.structures import Boxes, Instances

    from cellfeat.detection.detectron2_engine.config import to_detectron2_cfg
    from cellfeat.detection.detectron2_engine.datasets import register_datasets
    from cellfeat.detection.detectron2_engine.evaluation import coco_evaluator, to_scores

    name = cfg.DATASETS.TRAIN[0]
    classes = (*sorted(set(open_dataset(name).cell_classes())), "plasma cell") if several else ("WBC",)
    register_datasets([name], classes=classes)
    evaluator = coco_evaluator(to_detectron2_cfg(cfg), name)
    evaluator.reset()
    truth, results, rng = reference_coco(name, classes), [], np.random.default_rng(0)
    for image in truth["images"]:
        cells = guess(truth, image, rng)
        results += to_coco_results(cells, image["id"])
        instances = Instances(cells.image_size, pred_boxes=Boxes(torch.from_numpy(cells.boxes)))
        instances.scores, instances.pred_masks = torch.from_numpy(cells.scores), torch.from_numpy(cells.masks)
        instances.pred_classes = torch.from_numpy(cells.classes)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    theirs = to_scores(evaluator.evaluate())
    assert theirs.keys() == {"bbox", "segm"}
    for kind, values in theirs.items():
        assert 0.05 < values["AP"] < 0.95
        assert ("AP-plasma cell" in values) == several  # which has no reference cell
        assert values.pop("AP-plasma cell", None) is None
        expected = average_precision(truth, results, kind)
        assert expected.pop("AP-plasma cell", None) is None
        assert values == pytest.approx(expected, abs=1e-12)


def test_nothing_found_scores_nothing():
    from cellfeat.detection.detectron2_engine.evaluation import to_scores

    assert to_scores({"bbox": dict.fromkeys(("AP", "AP50", "AP75", "APs"), float("nan"))}) == {
        "bbox": {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    }


def test_the_last_checkpoint_is_named_in_one_go(tmp_path):
    """A file that is truncated and written anew is empty in between: killed there, the run could not go on."""
    from cellfeat.detection.detectron2_engine.checkpointer import Checkpointer

    checkpointer = Checkpointer(torch.nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    (tmp_path / "as_it_was").hardlink_to(tmp_path / "last_checkpoint")
    checkpointer.save("model_0000002")
    assert (tmp_path / "as_it_was").read_text() == "model_0000001.pth"
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
