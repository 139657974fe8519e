import json
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cellfeat.core import precision
from cellfeat.detection.config import config_dir
from cellfeat.detection.train_net import train_net
from cellfeat.errors import CellfeatError, DifferentInputs

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"


@pytest.fixture
def settings(narrow, data_root):
    def settings(output, iterations=4, **extra):
        values = {
            "OUTPUT_DIR": output,
            "SOLVER.MAX_ITER": iterations,
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.CHECKPOINT_PERIOD": 2,
            "TEST.EVAL_PERIOD": 2,
            "DATASETS.TRAIN": (f"{data_root[0]}@train", f"{data_root[1]}@train"),
            "DATASETS.TEST": (f"{data_root[0]}@val",),
            **extra,
        }
        return [*narrow, *(str(part) for pair in values.items() for part in pair)]

    return settings


@pytest.fixture
def train(engine):
    """`train_net` of the tiny config by each engine in turn."""
    return partial(train_net, CONFIG, engine=engine)


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_training_leaves_what_detectron2_would(tmp_path, train, settings):
    scores = train(settings(tmp_path / "run", iterations=20, **{"TEST.EVAL_PERIOD": 10}))
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.yaml",
        "metrics.json",
        "last_checkpoint",
        "model_best.pth",
        "model_final.pth",
        "evaluation.json",
        "MODEL_CARD.md",
    } <= names
    assert "site-a@val | bbox_AP50 |" in (folder / "MODEL_CARD.md").read_text()
    assert json.loads((folder / "evaluation.json").read_text()) == scores
    assert scores.keys() == {"site-a@val"}
    assert scores["site-a@val"].keys() == {"bbox", "segm"}
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [line for line in lines if "total_loss" in line]
    assert {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc", "lr", "iteration"} <= set(
        losses[0]
    )
    assert all(name.startswith(("backbone.", "proposal_generator.", "roi_heads.")) for name in weights(folder))
    # evaluating the written checkpoint gives the scores that training ended with
    again = train(settings(tmp_path / "eval", **{"MODEL.WEIGHTS": folder / "model_final.pth"}), eval_only=True)
    assert again["site-a@val"]["bbox"]["AP"] == pytest.approx(scores["site-a@val"]["bbox"]["AP"], abs=1e-3)


def test_the_loss_falls(tmp_path, train, settings):
    once = {"DATASETS.TEST": (), "SOLVER.WARMUP_ITERS": 10, "SOLVER.CHECKPOINT_PERIOD": 100}
    train(settings(tmp_path, iterations=40, **once))
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["total_loss"] < 0.8 * lines[0]["total_loss"]


def test_a_cpu_without_bf16_trains_in_fp32(tmp_path, train, settings, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    for name, enabled in (("bf16", True), ("fp32", False)):
        train(settings(tmp_path / name, iterations=1, **{"DATASETS.TEST": (), "SOLVER.AMP.ENABLED": enabled}))
    trained = weights(tmp_path / "fp32")
    assert all(torch.equal(tensor, trained[name]) for name, tensor in weights(tmp_path / "bf16").items())


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_as_an_unbroken_one(tmp_path, train, engine, settings, subprocess_env):
    train(settings(tmp_path / "unbroken", iterations=6))
    code = (
        "import sys; from cellfeat.detection.train_net import train_net; "
        "train_net(sys.argv[1], sys.argv[3:], num_gpus=0, engine=sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(CONFIG), engine, *settings(tmp_path / "killed", iterations=6)]
    process = subprocess.Popen(command, env=subprocess_env, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last_checkpoint").is_file():
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(settings(tmp_path / "killed", iterations=6), resume=True)
    unbroken, resumed = weights(tmp_path / "unbroken"), weights(tmp_path / "killed")
    assert unbroken.keys() == resumed.keys()
    for name, value in unbroken.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-8, msg=name)
    metrics = [(tmp_path / run / "metrics.json").read_text().splitlines() for run in ("unbroken", "killed")]
    iterations = [[json.loads(line)["iteration"] for line in lines] for lines in metrics]
    assert sorted(iterations[0]) == sorted(iterations[1])  # Detectron2 writes the last evaluation after the last losses
    assert len(set(iterations[1])) == len(iterations[1])


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_same_batches(tmp_path, data_root, settings):
    """Each with two of the four pictures of a batch; anchors and boxes are drawn at random among many."""
    few = {"DATASETS.TRAIN": (f"{data_root[0]}@train",), "DATASETS.TEST": (), "SOLVER.IMS_PER_BATCH": 4}
    few |= {"SOLVER.WARMUP_ITERS": 0, "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16}

    def train(name, iterations):
        train_net(CONFIG, settings(tmp_path / f"{name}-{iterations}", iterations, **few), engine="torchvision")

    for iterations in (1, 3):
        train("one", iterations)
        processes = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork")
        elastic_launch(processes, train)("two", iterations)  # what torchrun calls
    # Rounding decides between proposals that are nearly as good, which tells from the second step on.
    for iterations, tolerance in ((1, 1e-6), (3, 1e-3)):
        one, two = (weights(tmp_path / f"{name}-{iterations}") for name in ("one", "two"))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=tolerance, msg=name)
    assert max(float((one[name] - value).abs().max()) for name, value in weights(tmp_path / "one-1").items()) > 1e-2


def test_a_finished_run_is_not_trained_over_unasked(tmp_path, train, engine, settings):
    """Also if it ended before its first periodic checkpoint."""
    options = settings(tmp_path, iterations=1, **{"DATASETS.TEST": ()})
    train(options)
    before = (tmp_path / "model_final.pth").stat()
    with pytest.raises(CellfeatError, match="--resume"):
        train(options)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    # As of a run that was killed before it removed the checkpoint on its way and wrote its card.
    (tmp_path / "MODEL_CARD.md").unlink()
    (tmp_path / "model_0000000.pth").write_bytes(b"replaced")
    assert train(options, resume=True) == {}  # done already: nothing else is written, and nothing trained
    assert (tmp_path / "model_0000000.pth").exists() == (engine == "detectron2")  # which keeps the last of these
    assert (tmp_path / "MODEL_CARD.md").read_text() == card
    after = (tmp_path / "model_final.pth").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    none = dict.fromkeys(("AP", "AP50", "AP75"))
    (tmp_path / "evaluation.json").write_text(json.dumps({"elsewhere": {"bbox": none}}))
    with pytest.raises(CellfeatError, match=r"evaluation\.json: is not as .*; remove it and resume: it is measured"):
        train(options, resume=True)


def test_a_finished_run_can_be_made_longer(tmp_path, train, settings):
    train(settings(tmp_path, iterations=2, **{"DATASETS.TEST": ()}))
    before = weights(tmp_path)
    # Two more: in the first Detectron2 still has the rate that the finished schedule ended with, 0.
    train(settings(tmp_path, iterations=4, **{"DATASETS.TEST": ()}), resume=True)
    name = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(weights(tmp_path)[name], before[name])


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path, train, settings):
    """What it logged is logged again, once; its torn last line does no harm."""
    log = tmp_path / "metrics.json"
    log.write_text('{"iteration": 0, "total_loss": 9.0, "killed": 1}\n{"iterati')
    train(settings(tmp_path, iterations=20, **{"DATASETS.TEST": (), "SOLVER.CHECKPOINT_PERIOD": 100}), resume=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [19]
    assert not any("killed" in line for line in lines)


def test_a_torn_line_of_metrics_is_dropped_on_resume(tmp_path, train, settings):
    train(settings(tmp_path, iterations=1, **{"DATASETS.TEST": ()}))
    with open(tmp_path / "metrics.json", "a") as log:
        log.write('{"iteration": 0, "torn": 1}\n{"iteration": 1, "total_lo')
    train(settings(tmp_path, iterations=2, **{"DATASETS.TEST": ()}), resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any("torn" in line for line in lines)


def test_another_network_is_not_resumed_into(tmp_path, train, settings):
    train(settings(tmp_path, iterations=1, **{"DATASETS.TEST": ()}))
    with pytest.raises(DifferentInputs, match=r"MODEL\.RPN\.NMS_THRESH = 0\.7, now it is 0\.5"):
        train(settings(tmp_path, iterations=2, **{"MODEL.RPN.NMS_THRESH": 0.5}), resume=True)


def test_a_diverged_run_leaves_no_best_model(tmp_path, train, settings):
    wild = {"SOLVER.BASE_LR": 1e9, "SOLVER.CLIP_GRADIENTS.ENABLED": False, "SOLVER.WARMUP_ITERS": 0}
    with pytest.raises(CellfeatError, match=r"diverged at iteration \d+ .*SOLVER\.BASE_LR"):
        train(settings(tmp_path, iterations=3, **wild, **{"TEST.EVAL_PERIOD": 1}))
    assert not (tmp_path / "model_best.pth").exists()
    assert not (tmp_path / "evaluation.json").exists()


def test_a_test_set_that_cannot_be_used_is_said_before_the_training(tmp_path, train, settings):
    with pytest.raises(CellfeatError, match="nowhere"):
        train(settings(tmp_path, iterations=1, **{"DATASETS.TEST": ("nowhere",)}))
    assert not (tmp_path / "config.yaml").exists()


def test_a_damaged_checkpoint_is_named(tmp_path, train, settings):
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    (tmp_path / "model_0000001.pth").write_bytes(b"half a checkpoint")
    with pytest.raises(CellfeatError, match=r"model_0000001\.pth: cannot go on"):
        train(settings(tmp_path), resume=True)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"DATASETS.TRAIN": ()}, {}, "DATASETS.TRAIN is empty"),
        ({"DATASETS.TRAIN": ("nowhere",)}, {}, "nowhere"),
        ({}, {"num_gpus": 2}, "--num-gpus 2"),
        ({"MODEL.WEIGHTS": ""}, {"eval_only": True}, "MODEL.WEIGHTS"),
        ({"MODEL.WEIGHTS": "x.pth", "DATASETS.TEST": ()}, {"eval_only": True}, "DATASETS.TEST"),
        ({"INPUT.CROP.ENABLED": True}, {}, "INPUT.CROP.ENABLED"),
        ({"SOLVER.BASE_LR": 1e9, "SOLVER.CLIP_GRADIENTS.ENABLED": False, "SOLVER.WARMUP_ITERS": 0}, {}, "diverged"),
    ],
)
def test_bad_input_is_one_line(tmp_path, train, settings, change, options, words):
    with pytest.raises(CellfeatError, match=words):
        train(settings(tmp_path, iterations=8, **change), **options)
