"""The writing commands that benchmarks/faults.py disturbs, on the smallest inputs that take every step of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from cellfeat.store import CellRow, ImageResult, Store, StoreWriter, write_embeddings

CLASSES = ("blast", "eosinophil", "lymphocyte")
CONFIG = "wbc_mask_rcnn_R_18_FPN_tiny.yaml"
DETECTOR = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_narrow_resnet_fpn_backbone",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.AMP.ENABLED": False,
    "TEST.DETECTIONS_PER_IMAGE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 0,
}


@dataclass
class Command:
    """A command under test.

    Args:
        name: What the table calls it.
        argv: Gives its arguments, of the folder of inputs and of the folder that it writes to.
        prepare: Makes what must be there before, given the same folders.
        ends: Exit statuses that it may end with when it is disturbed.
    """

    name: str
    argv: Callable[[Path, Path], list[str]]
    prepare: Callable[[Path, Path], object] = lambda inputs, output: None
    ends: tuple[int, ...] = (0, 2)


def make_inputs(folder: Path) -> Path:
    """Stores, embeddings, an evaluation, images and a detector, in a new folder."""
    from cellfeat.data.synthetic import write_sites
    from cellfeat.evaluation import EvaluationConfig, evaluate
    from cellfeat.methods import build

    if (folder / "done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store = write_store(folder / "store", ("a", "b"))
    for name in ("part-a", "part-b"):
        write_store(folder / name, (name[-1],))
    broken = write_store(folder / "broken", ("a", "b"))
    shard = sorted((broken / "shards").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    opened, rng = Store(store), np.random.default_rng(0)
    said = {"method": "noise", "config": "{}", "store_digest": opened.digest}
    write_embeddings(folder / "noise.h5", opened.table()["cell_id"], rng.normal(size=(len(opened), 4)), said)
    evaluate(opened, [folder / "noise.h5"], folder / "evaluation", EvaluationConfig(runs=1, protocols=["code"]))
    explained = build("mdd", {"epochs": 1, "width": 16, "batch_size": 4})
    explained.fit(opened, np.arange(6), folder / "mdd", np.arange(6, 12))
    sites = write_sites(folder / "datasets", images_per_site=6)
    _write_detector(folder / "model.pth")
    compare = {"store": str(store), "methods": ["rcnn"], "align": ["coral"], "anchor": "a"}
    compare |= {"evaluation": {"runs": 1, "trees": 5, "bootstrap": 20}}
    _write_yaml(folder / "compare.yaml", compare)
    channels = {"MODEL.FPN.OUT_CHANNELS": 256}  # what AE-CFE takes
    detector = {"config": CONFIG, "overrides": _overrides(DETECTOR | channels)}
    detector |= {"train": [f"{sites[0]}@train"], "test": [f"{sites[0]}@val"]}
    pipeline = {"data_root": str(folder / "datasets"), "detector": detector, "evaluation": {"runs": 1}}
    pipeline |= {"dump": {"datasets": sites[:2], "score_threshold": 0.0}}
    pipeline |= {"autoencoder": {"anchor": sites[0], "epochs": 1, "batch_size": 64, "image_fraction": 0.05}}
    _write_yaml(folder / "pipeline.yaml", pipeline)
    command = [sys.executable, "-m", "cellfeat", *_dump(folder, folder / "blocks", "--part", "1/1")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    (folder / "done").touch()
    return folder


def write_store(path: Path, domains: tuple[str, ...], cells: int = 6) -> Path:
    """A store of a few cells of three classes, a shard a domain, features as AE-CFE wants them."""
    with StoreWriter(path, (256, 14, 14), 128, {"made_by": "benchmarks/faults.py"}, shard_cells=cells) as writer:
        for domain in domains:
            rng = np.random.default_rng(ord(domain))
            for k in range(cells):
                feature = np.kron(rng.normal(size=(256, 2, 2)), np.ones((1, 7, 7)))
                crop = np.full((128, 128, 3), rng.integers(0, 255, 3), np.uint8)
                cell = CellRow(
                    feature, crop, np.ones((128, 128), np.uint8), np.array([0, 0, 9, 9]), 0.9, CLASSES[k % 3]
                )
                writer.add(ImageResult(f"{domain}/{k}.png", domain, CLASSES[k % 3], 64, 64, cells=[cell]))
    return path


def _write_detector(path: Path) -> None:
    import torch

    from cellfeat.core.tensors import save_checkpoint
    from cellfeat.detection.config import config_dir, load_config
    from cellfeat.detection.torchvision_engine.model import MaskRCNN
    from cellfeat.detection.torchvision_engine.names import to_detectron2

    torch.manual_seed(0)
    model = MaskRCNN(load_config(config_dir() / CONFIG, _overrides(DETECTOR)))
    save_checkpoint(path, {"model": to_detectron2(model.state_dict())})


def _write_yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _overrides(settings: dict[str, object]) -> list[str]:
    return [str(part) for pair in settings.items() for part in pair]


def _configured(name: str) -> Callable[[Path, Path], None]:
    """Puts a YAML of the inputs beside the output folder, with that folder as its output."""

    def prepare(inputs: Path, output: Path) -> None:
        content = yaml.safe_load((inputs / name).read_text())
        _write_yaml(output.with_name(name), {"output": str(output), **content})

    return prepare


def _dump(inputs: Path, output: Path, *more: str) -> list[str]:
    os.environ["CELLFEAT_DATASETS"] = str(inputs / "datasets")
    argv = ["dump", "--config-file", CONFIG, "--weights", f"{inputs / 'model.pth'}", "--output", f"{output}"]
    argv += ["--dataset", "site-a", "--dataset", "site-b", "--score-threshold", "0", "--batch-size", "2", *more]
    return [*argv, *_overrides(DETECTOR)]


def _train_net(inputs: Path, output: Path) -> list[str]:
    os.environ["CELLFEAT_DATASETS"] = str(inputs / "datasets")
    argv = ["train-net", "--config-file", CONFIG, "--num-gpus", "0", "--engine", "torchvision", "--resume"]
    own = {"OUTPUT_DIR": output, "DATASETS.TRAIN": "('site-a@train',)", "DATASETS.TEST": "('site-a@val',)"}
    return [*argv, *_overrides(DETECTOR | own)]


COMMANDS = {
    command.name: command
    for command in (
        Command("merge", lambda i, o: ["merge", f"{i / 'part-a'}", f"{i / 'part-b'}", "--output", f"{o}"]),
        Command("subset", lambda i, o: ["subset", f"{i / 'store'}", "--domain", "a", "--output", f"{o}"]),
        Command(
            "repair",
            lambda i, o: ["verify", f"{o}", "--repair"],
            lambda i, o: shutil.copytree(i / "broken", o, dirs_exist_ok=True),
            ends=(0, 1, 2),  # 1: what is left of the store has faults
        ),
        Command("export csv", lambda i, o: _export(i, o, "csv")),
        Command("export npz", lambda i, o: _export(i, o, "npz")),
        Command("export h5ad", lambda i, o: _export(i, o, "h5ad")),
        Command("convert-weights", lambda i, o: ["convert-weights", f"{i / 'model.pth'}", f"{o / 'w.safetensors'}"]),
        Command("embed", lambda i, o: ["embed", f"{i / 'store'}", "--method", "rcnn", "--output", f"{o / 'rcnn.h5'}"]),
        Command(
            "evaluate",
            lambda i, o: [
                *("evaluate", f"{i / 'store'}", f"{i / 'noise.h5'}", "--output", f"{o}"),
                *("--runs", "1", "--protocol", "code"),
            ],
        ),
        Command(
            "report",
            lambda i, o: [
                *("report", f"{i / 'store'}", f"{i / 'noise.h5'}", "--evaluation", f"{i / 'evaluation'}"),
                *("--output", f"{o / 'report.html'}"),
            ],
        ),
        Command(
            "explain",
            lambda i, o: ["explain", f"{i / 'store'}", f"{i / 'mdd'}", "--output", f"{o}", "--per-class", "1"],
        ),
        Command("dump", _dump),
        Command("dump of two processes", lambda i, o: _dump(i, o, "--ranks", "2")),
        Command("dump of a part", lambda i, o: _dump(i, o, "--part", "1/2")),
        Command(
            "join", lambda i, o: ["join", f"{o}"], lambda i, o: shutil.copytree(i / "blocks", o, dirs_exist_ok=True)
        ),
        Command(
            "train-ae",
            lambda i, o: [
                *("train-ae", f"{i / 'store'}", "--output", f"{o}", "--epochs", "2", "--batch-size", "8"),
                *("--image-fraction", "0.2", "--anchor", "a"),
            ],
        ),
        Command("train-net", _train_net),
        Command("compare", lambda i, o: ["compare", f"{o.with_name('compare.yaml')}"], _configured("compare.yaml")),
        Command("run", lambda i, o: ["run", f"{o.with_name('pipeline.yaml')}"], _configured("pipeline.yaml")),
    )
}


def _export(inputs: Path, output: Path, kind: str) -> list[str]:
    argv = ["export", f"{inputs / 'store'}", "--to", kind, "--output", f"{output / 'cells'}.{kind}"]
    return [*argv, "--embeddings", f"{inputs / 'noise.h5'}"]
