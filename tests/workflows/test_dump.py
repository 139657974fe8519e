import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from dump_helpers import CONFIG, equal, options
from PIL import Image
from torchvision.ops import box_iou

from cellfeat.core.files import read_json
from cellfeat.core.tensors import save_checkpoint
from cellfeat.data.catalogue import open_dataset
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.errors import CellfeatError, MissingWeights
from cellfeat.reporting.material import gather
from cellfeat.reporting.sections import detection
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_images import _read
from cellfeat.workflows.dump_plan import dump_plan_lines, plan_dump


def test_a_store_of_two_sites(tmp_path, data_root, cfg, caplog):
    with caplog.at_level("INFO", "cellfeat"):
        store = dump(cfg, data_root[:2], tmp_path / "store", options())
    for name in data_root[:2]:
        assert str(open_dataset(name).summary(read_masks=False)) in caplog.messages
    [line] = [record.message for record in caplog.records if "more than one cell" in record.message]
    assert re.match(r"\d+ of the 26 images dumped now have more than one cell .* only the central one is kept", line)
    assert re.search(
        r"\d+ images have 20 cells or more .*: raise TEST.DETECTIONS_PER_IMAGE, or cells are lost", caplog.text
    )
    table = store.table()
    records = [record for name in data_root[:2] for record in open_dataset(name).records()]
    assert store.feature_shape == (32, 14, 14)
    assert list(store.images()["image_id"]) == [record.image_id for record in records]
    assert dict(zip(table["image_id"], table["label"], strict=True)) == {
        r.image_id: r.label for r in records if r.image_id in set(table["image_id"])
    }
    assert set(table["domain"]) == {"site-a", "site-b"}
    summary = read_json(tmp_path / "store" / "summary.json")
    assert summary["site-a"]["images"] == 13
    assert summary["site-a"]["detection_rate"] == summary["site-a"]["with_cell"] / 13
    assert store.verify() == []
    assert dump(cfg, data_root[:2], tmp_path / "store", options()).digest == store.digest  # again: nothing to do
    planned = plan_dump(cfg, data_root, tmp_path / "store", options())
    assert [(one["images"], one["stored"]) for one in planned] == [(13, 13), (13, 13), (13, 0)]
    assert next(dump_plan_lines(planned)) == "site-a (domain site-a): 13 images, 13 of them stored already"


def test_the_class_that_the_detector_predicts_reaches_store_and_report(tmp_path, data_root, tiny):
    """A random detector of three classes: what it calls each cell lies beside the label."""
    names = ("basophil", "blast", "monocyte")
    given = [*tiny, "MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.ROI_HEADS.CLASSES", str(names)]
    given += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.MASK_ON", "False"]
    torch.manual_seed(0)
    state = to_detectron2(MaskRCNN(load_config(CONFIG, given)).state_dict())
    save_checkpoint(tmp_path / "model.pth", {"model": state})
    cfg = load_config(CONFIG, [*given, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    store = dump(cfg, data_root[:1], tmp_path / "store", options())
    table = store.table()
    assert set(table["detected_class"]) <= set(names)
    assert len(table) > 0
    shown = detection(gather(store))
    right = table["detected_class"] == table["label"]
    assert shown["classes"][0]["accuracy"] == pytest.approx(right[table["label"] != ""].mean())
    assert shown["confusions"].startswith("data:image/png")


def test_with_all_cells_only_the_central_one_has_the_images_label(tmp_path, data_root, cfg):
    table = dump(cfg, data_root[:1], tmp_path / "store", options(select="all")).table()
    assert len(table) > table["image_id"].nunique()
    assert (table[table["label"] != ""].groupby("image_id").size() == 1).all()


def test_groups_metadata_and_classes_reach_the_store(tmp_path, cfg, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "white").save(folder / f"{name}.png")
    (folder / "empty.png").touch()
    (folder / "patients.csv").write_text("file,patient,stain\na.png,p1,Wright\nb.png,p2,\nempty.png,p2,Wright\n")
    (folder / "classes.csv").write_text("class,parent\nhairy cell,lymphocyte\n")
    described = "table: patients.csv\ngroup: patient\nmetadata: [stain]\nlabels: {classes: classes.csv}\n"
    (folder / "dataset.yaml").write_text(described)
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    store = dump(cfg, ["site"], tmp_path / "store", options())
    images = store.images()
    assert store.classes.own == {"hairy cell": "lymphocyte"}
    assert images["group"].tolist() == ["p1", "p2", "p2"]
    assert images["stain"].tolist() == ["Wright", "", "Wright"]
    (folder / "patients.csv").write_text("file,patient,stain\na.png,p1,\nb.png,p1,\nempty.png,p2,\n")
    with pytest.raises(CellfeatError, match=r"images\.site"):  # made with other patients
        dump(cfg, ["site"], tmp_path / "store", options())
    (folder / "patients.csv").write_text("file,patient,label\na.png,p1,\n")
    (folder / "dataset.yaml").write_text(described.replace("stain", "label"))
    with pytest.raises(CellfeatError, match="metadata column 'label': a store has a column of this name"):
        dump(cfg, ["site"], tmp_path / "other", options())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("pool", "shape"), [("box", (32, 7, 7)), ("box_head", (32, 1, 1))])
def test_other_taps(tmp_path, data_root, cfg, pool, shape):
    store = dump(cfg, data_root[:1], tmp_path / "store", options(pool=pool, feature_dtype="float32", limit=3))
    assert store.feature_shape == shape
    assert store.read("features", slice(None)).dtype == np.float32


SLOW = """
import sys
from cellfeat.detection.config import load_config
from cellfeat.workflows.dump_images import _read
from cellfeat.workflows.dump_plan import dump_plan_lines, plan_dump
from cellfeat.workflows.dump import dump
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.store import writer
from pathlib import Path
original = writer.StoreWriter.__init__
def small(self, *args, **kwargs):
    original(self, *args, **{**kwargs, "shard_cells": 5})
writer.StoreWriter.__init__ = small
output, datasets, overrides = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
cfg = load_config(overrides[0], overrides[1:])
dump(cfg, datasets, Path(output), DumpConfig(score_threshold=0.0, crop_size=32, batch_size=4))
"""


@pytest.mark.slow
def test_a_killed_dump_resumes_to_the_store_of_an_unbroken_one(tmp_path, data_root, cfg, tiny, weights, subprocess_env):
    unbroken = dump(cfg, data_root, tmp_path / "unbroken", options())
    overrides = [str(CONFIG), *tiny, "MODEL.WEIGHTS", str(weights), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    command = [sys.executable, "-c", SLOW, str(tmp_path / "killed"), ",".join(data_root), *overrides]
    process = subprocess.Popen(command, env=subprocess_env, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "killed").glob("shards/part-00001.h5")):
        assert process.poll() is None, "ended before its second shard"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    equal(dump(cfg, data_root, tmp_path / "killed", options()), unbroken)


@pytest.mark.detectron2
def test_both_engines_make_the_same_store(tmp_path, data_root, cfg):
    ours, theirs = (dump(cfg, data_root[:1], tmp_path / e, options(), e) for e in ("torchvision", "detectron2"))
    numbers = ["score", "x0", "y0", "x1", "y1"]
    pd.testing.assert_frame_equal(ours.table().drop(columns=numbers), theirs.table().drop(columns=numbers))
    pd.testing.assert_frame_equal(ours.images(), theirs.images())
    (features, crops, masks, boxes, scores), others = (
        [store.read(name, slice(None)).astype(np.float32) for name in ("features", "crops", "masks", "boxes", "scores")]
        for store in (ours, theirs)
    )
    assert len(boxes) > 0
    assert box_iou(torch.from_numpy(boxes), torch.from_numpy(others[3])).diagonal().min() >= 0.999
    np.testing.assert_allclose(scores, others[4], atol=1e-3)
    error = np.linalg.norm((features - others[0]).reshape(len(boxes), -1), axis=1)
    assert (error <= 1e-3 * np.linalg.norm(others[0].reshape(len(boxes), -1), axis=1)).all()
    assert np.abs(crops - others[1]).max() <= 1  # grey level
    assert (masks != others[2]).mean() <= 1e-3
    differing = {key for key, value in ours.provenance.items() if theirs.provenance[key] != value}
    assert differing == {"engine"}


def test_images_that_cannot_be_read_are_listed_and_the_others_stored(tmp_path, monkeypatch, cfg):
    folder = tmp_path / "odd"
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "plain.png")
    Image.fromarray(pixels[..., 0]).save(folder / "images" / "grey.png")
    Image.fromarray(pixels).convert("CMYK").save(folder / "images" / "print.jpg")
    Image.fromarray(pixels).convert("RGBA").save(folder / "images" / "alpha.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "images" / "deep.png")
    (folder / "images" / "empty.png").touch()
    (folder / "images" / "cut.png").write_bytes((folder / "images" / "plain.png").read_bytes()[:400])
    (folder / "dataset.yaml").write_text(
        "name: odd\ntitle: Odd images\ndomain: odd\nimages: images\n"
        "labels: {kind: none}\nlicence: none\ncitation: none\n"
    )
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))
    images = dump(cfg, ["odd"], tmp_path / "store", options()).images().set_index("image_id")
    unreadable = images[images["reason"] != ""]
    assert set(unreadable.index) == {"odd/empty.png", "odd/cut.png"}
    assert unreadable["reason"].to_dict() == {"odd/empty.png": "empty file", "odd/cut.png": "truncated"}
    assert len(images) == 7
    for name in ("plain.png", "grey.png", "print.jpg", "alpha.png", "deep.png"):
        (folder / "images" / name).unlink()
    with pytest.raises(CellfeatError, match=r"none of the 2 images can be read: 1 .*, 1 .*; the first is odd/cut.png"):
        dump(cfg, ["odd"], tmp_path / "none", options())
    assert not list((tmp_path / "none" / "shards").iterdir())
    Image.new("RGB", (64, 64), "white").save(folder / "images" / "cut.png")
    assert len(dump(cfg, ["odd"], tmp_path / "none", options()).images()) == 2  # nothing has to be removed by hand


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datasets": ["site-a"]}, "datasets"),
        ({"options": options(score_threshold=0.5)}, "dump"),
    ],
)
def test_a_standing_store_of_other_inputs_is_not_mixed(tmp_path, data_root, cfg, change, words):
    dump(cfg, data_root[:2], tmp_path / "store", options())
    with pytest.raises(CellfeatError, match=words):
        dump(cfg, change.get("datasets", data_root[:2]), tmp_path / "store", change.get("options", options()))


def test_without_weights_nothing_is_dumped(tmp_path, data_root, tiny):
    with pytest.raises(MissingWeights, match=r"needs a trained detector, and none is named; give .*model_final\.pth"):
        dump(load_config(CONFIG, tiny), data_root, tmp_path / "store", options())
    backbone = load_config(config_dir() / "wbc_mask_rcnn_R_101_FPN.yaml")
    with pytest.raises(MissingWeights, match=r"R-101\.pkl is a backbone that training starts from"):
        dump(backbone, data_root, tmp_path / "store", options())
    with pytest.raises(MissingWeights):
        plan_dump(backbone, data_root, tmp_path / "store", options())
    assert not (tmp_path / "store").exists()


def test_a_changed_dataset_is_not_mixed_and_a_vanished_folder_ends_the_run(tmp_path, monkeypatch, cfg):
    folder = tmp_path / "site"
    (folder / "images").mkdir(parents=True)
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
    (folder / "dataset.yaml").write_text(
        "name: site\ntitle: Site\ndomain: site\nimages: images\nlabels: {kind: none}\nlicence: none\ncitation: none\n"
    )
    monkeypatch.setenv("CELLFEAT_DATASETS", str(tmp_path))

    def vanish(record, whole=_read):
        if record.image_id.endswith("2.png"):
            (folder / "images").rename(folder / "gone")
        return whole(record)

    with monkeypatch.context() as broken:
        broken.setattr("cellfeat.workflows.dump_images._read", vanish)
        with pytest.raises(CellfeatError, match="the folder of images has vanished; bring it back and run again"):
            dump(cfg, ["site"], tmp_path / "store", options(batch_size=2))
    (folder / "gone").rename(folder / "images")
    store = dump(cfg, ["site"], tmp_path / "store", options(batch_size=2))
    assert store.images()["reason"].tolist() == [""] * 4
    with open(folder / "images" / "3.png", "ab") as file:
        file.write(b"more")
    with pytest.raises(CellfeatError, match=r"with images\.site"):
        dump(cfg, ["site"], tmp_path / "store", options(batch_size=2))
