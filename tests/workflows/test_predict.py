"""Pictures that are in no store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from crop_stores import CLASSES, make_store
from PIL import Image

import cellfeat
from cellfeat.cli import main
from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2
from cellfeat.errors import CellfeatError
from cellfeat.methods import build
from cellfeat.store import Store
from cellfeat.workflows.dump_config import DumpConfig
from cellfeat.workflows.predict import predict_store

CONFIG = config_dir() / "wbc_mask_rcnn_R_18_FPN_tiny.yaml"
NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    """A store, networks that were fitted on it for an epoch, a random detector, and two pictures."""
    root = tmp_path_factory.mktemp("predict")
    store = make_store(root / "store", provenance={"dump": {"crop_margin": 0.1}})
    build("resnext", {"model": "resnet18", "size": 32, "epochs": 1}).fit(store, np.arange(24), root / "resnext", NONE)
    site_a = store.select(domain="site-a")
    build("mdd", {"epochs": 1, "width": 16}).fit(store, site_a[:8], root / "mdd", site_a[8:])
    torch.manual_seed(0)
    given = [*tiny, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "3"]
    cfg = load_config(CONFIG, given)
    save_checkpoint(root / "model.pth", {"model": to_detectron2(MaskRCNN(cfg).state_dict())})
    (root / "config.yaml").write_text(cfg.dump())
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir()
    for k in range(2):
        Image.fromarray(rng.integers(0, 255, (60, 70 + k, 3), np.uint8)).save(root / "pictures" / f"{k}.png")
    return store, root


ALL = DumpConfig(select="all", score_threshold=0, crop_size=32)  # a random detector is sure of nothing


def test_cells_of_pictures_have_a_class_a_heat_map_and_neighbours(study):
    pytest.importorskip("pytorch_grad_cam")
    store, root = study
    found = cellfeat.predict(root / "pictures", root / "resnext", root / "model.pth", reference=store, settings=ALL)
    n = len(found.table)
    assert n > 0
    assert set(found.table["image_id"]) <= {"pictures/0.png", "pictures/1.png"}
    assert found.classes == CLASSES
    assert found.probabilities.shape == (n, 3)
    named = np.array(found.classes)[found.probabilities.argmax(axis=1)]
    assert found.table["predicted"].tolist() == named.tolist()
    assert found.crops.shape == (n, 32, 32, 3)
    assert found.masks.shape == (n, 32, 32)
    assert found.heat_maps.shape[0] == n
    assert 0 <= found.heat_maps.min() <= found.heat_maps.max() <= 1
    assert found.neighbours.shape == found.distances.shape == (n, 6)
    assert (np.diff(found.distances) >= 0).all()
    assert (root / "resnext" / "features.h5").is_file()  # computed once


def test_an_array_is_a_picture_and_the_cells_are_kept_where_that_is_asked_for(study, tmp_path):
    _, root = study
    rgb = np.asarray(Image.open(root / "pictures" / "0.png"))
    options = {"heat_maps": False, "settings": ALL}
    by_file = cellfeat.predict(root / "pictures" / "0.png", root / "resnext", root / "model.pth", **options)
    found = cellfeat.predict(rgb, root / "resnext", root / "model.pth", output=tmp_path / "kept", **options)
    np.testing.assert_array_equal(found.probabilities, by_file.probabilities)
    assert found.heat_maps is found.neighbours is None
    assert len(Store(tmp_path / "kept")) == len(found.table)
    with pytest.raises(CellfeatError, match=r"picture 0: \(60, 70\) uint8; give \(h, w, 3\) uint8"):
        cellfeat.predict([rgb[..., 0]], root / "resnext", root / "model.pth", **options)
    with pytest.raises(CellfeatError, match="no pictures"):
        cellfeat.predict([], root / "resnext", root / "model.pth", **options)


def test_a_network_that_knows_some_laboratories_asks_for_one(study):
    _, root = study
    pictures = root / "pictures"
    options = {"heat_maps": False, "settings": ALL}
    with pytest.raises(CellfeatError, match=r"mdd was not fitted for the domain 'pictures'; say which .*: site-a"):
        cellfeat.predict(pictures, root / "mdd", root / "model.pth", **options)
    found = cellfeat.predict(pictures, root / "mdd", root / "model.pth", domain="site-a", **options)
    assert set(found.table["domain"]) == {"site-a"}


def test_what_is_no_fitted_network_is_refused_before_a_picture_is_read(study, tmp_path):
    _, root = study
    with pytest.raises(CellfeatError, match=r"fit\.json: no such file"):
        cellfeat.predict(tmp_path / "absent.png", tmp_path)
    other = make_store(tmp_path / "other", seed=1)
    with pytest.raises(CellfeatError, match="fitted on another store"):
        cellfeat.predict(tmp_path / "absent.png", root / "resnext", reference=other)


def test_cells_of_another_store_are_named_as_the_method_names_them(study, tmp_path, capsys):
    store, root = study
    other = make_store(tmp_path / "other", cells=6, domains=("site-c",), seed=1)
    found = predict_store(other, root / "resnext")
    config = {"model": "resnet18", "size": 32, "epochs": 1}
    _, probabilities = build("resnext", config).predict(other, np.arange(6), root / "resnext")
    np.testing.assert_array_equal(found.probabilities, probabilities)
    assert found.crops is None
    arguments = ["predict", str(other.path), "--fitted", str(root / "resnext"), "--reference", str(store.path)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--output", str(tmp_path / "named.csv")])
    assert ended.value.code == 0
    table = pd.read_csv(tmp_path / "named.csv")
    assert table["predicted"].tolist() == found.table["predicted"].tolist()
    np.testing.assert_allclose(table[list(CLASSES)], probabilities, atol=1e-4)
    assert set(table["nearest_1"]) <= set(store.table()["cell_id"])
