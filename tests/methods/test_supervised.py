from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from crop_stores import CLASSES, make_store
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from cellfeat.errors import CellfeatError
from cellfeat.methods import build, supervised
from cellfeat.methods.backbones import freeze_below_last_block
from cellfeat.methods.classifier import class_weights, weighted_cross_entropy
from cellfeat.methods.supervised import support_vector_head

QUICK = {"model": "shufflenet_v2_x0_5", "size": 32, "epochs": 2, "batch_size": 8}
NONE = np.empty(0, np.int64)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", cells=36)


def accuracy(store, method, rows, folder) -> float:
    classes, probabilities = method.predict(store, rows, folder)
    assert classes == CLASSES
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    return float((np.array(classes)[probabilities.argmax(1)] == store.table()["label"].to_numpy()[rows]).mean())


def test_class_weights_are_total_over_share_times_count():
    np.testing.assert_allclose(class_weights(np.array([0, 0, 0, 1]), 2, share=2), [4 / 6, 4 / 2])


def test_weighted_cross_entropy_by_hand():
    logits, label = torch.log(torch.tensor([[3.0, 1.0], [1.0, 1.0]])), torch.tensor([0, 1])
    expected = (0.5 * -np.log(3 / 4) + 2 * -np.log(1 / 2)) / 2
    found = weighted_cross_entropy(logits, label, torch.tensor([0.5, 2.0]))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    smoothed = 0.5 * -(0.9 * np.log(3 / 4) + 0.1 * np.log(1 / 4))  # 0.2 spread over two classes
    found = weighted_cross_entropy(logits[:1], label[:1], torch.tensor([0.5, 2.0]), smoothing=0.2)
    assert float(found) == pytest.approx(smoothed, rel=1e-6)


def test_resnext_learns_its_domain(store, tmp_path):
    method = build("resnext", QUICK | {"model": "resnet18", "epochs": 3, "lr": 3e-3})
    assert method.needs == {"labels"}
    rows = np.arange(0, 36)
    method.fit(store, rows[::-1], tmp_path / "fit", NONE)
    assert accuracy(store, method, rows, tmp_path / "fit") > 0.6  # chance is a third
    metrics = pd.read_csv(tmp_path / "fit" / "metrics.csv")
    assert metrics["epoch"].tolist() == list(range(len(metrics)))
    assert {path.name for path in (tmp_path / "fit").iterdir()} == {
        "fit.json",
        "metrics.csv",
        "model.json",
        "weights.safetensors",
    }


def test_the_rate_falls_and_the_training_stops_without_progress(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cellfeat.methods.supervised.outputs", lambda network, dataset, rows: torch.zeros(len(rows), 3))
    config = QUICK | {"epochs": 9, "plateau": 1, "patience": 4, "lr": 1e-3}
    build("resnext", config).fit(store, np.arange(12), tmp_path / "fit", NONE)
    metrics = pd.read_csv(tmp_path / "fit" / "metrics.csv")
    assert len(metrics) == 5  # the best is the first
    np.testing.assert_allclose(metrics["lr"], [1e-3, 1e-3, 1e-3, 1e-4, 1e-4])


def test_the_articles_vgg16():
    """Behind the convolutions: global average pooling, dense 1,024, dropout 0.2, dense 512, dropout, the classes."""
    with torch.device("meta"):
        network = build("finetune:vgg16")._network(11, None)
        vgg19 = build("finetune:vgg19")._network(11, None)
    linear = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert linear == [(1024, 512), (512, 1024), (11, 512)]
    assert isinstance(network.body[1].avgpool, nn.AdaptiveAvgPool2d)
    assert network.body[1].avgpool.output_size == 1
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.2, 0.2]
    assert [type(layer).__name__ for layer in network.head] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert next(layer for layer in vgg19.modules() if isinstance(layer, nn.Linear)).in_features == 512
    assert build("finetune:vit_b_16").config.head == "linear"


def test_three_steps_end_in_a_support_vector_machine_on_1024_numbers(store, tmp_path):
    """All layers; all but those behind the features; a machine on the features. On the cell alone, by its purple."""
    config = {"head": "dense", "trained": "svm", "masked": "purple", "size": 32, "epochs": 1, "batch_size": 8}
    method = build("finetune:shufflenet_v2_x0_5", config)
    assert method.name == "finetune:shufflenet_v2_x0_5"
    assert method.needs == {"labels"}
    rows, trained = np.arange(36), []
    original = supervised.train
    frozen = lambda module: {n.split(".")[1] for n, p in module.named_parameters() if not p.requires_grad}  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised, "train", lambda module, *a: (trained.append(frozen(module)), original(module, *a)))
        method.fit(store, rows[:24], tmp_path / "svm", NONE)
    assert trained == [set(), {"head"}]
    network, _, _ = method.load(store, tmp_path / "svm")
    assert network.head.weight.shape == (3, 1024)
    accuracy(store, method, rows[24:], tmp_path / "svm")
    metrics = pd.read_csv(tmp_path / "svm" / "metrics.csv")
    assert metrics[["epoch", "step"]].to_numpy().tolist() == [[0, 1], [1, 2]]
    assert not list((tmp_path / "svm").glob("step*"))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folded_machine_decides_as_scikit_learn_does(classes):
    rng = np.random.default_rng(0)
    label = np.arange(60) % classes
    features = rng.normal(size=(60, 4)) * [1, 5, 0.1, 1] + label[:, None] * [2, 3, 0.1, 0] + 7
    head = support_vector_head(features, label, seed=0)
    scaled = (features - features.mean(0)) / features.std(0)
    expected = LinearSVC(class_weight="balanced", random_state=0).fit(scaled, label).predict(scaled)
    found = functional.linear(torch.from_numpy(features).float(), head.weight, head.bias).argmax(1)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("vgg19", {"features.28", "features.34", "classifier.6"}),
        ("vit_b_16", {"encoder.layers.encoder_layer_11", "encoder.ln"}),
        ("resnext50_32x4d", {"layer4.0", "layer4.2"}),
    ],
)
def test_the_last_block_alone_is_trained(name, trained):
    with torch.device("meta"):
        network = get_model(name)
    freeze_below_last_block(network)
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert all(any(name.startswith(f"{block}.") for name in free) for block in trained)
    tops = {".".join(name.split(".")[: 3 if name.startswith("encoder.layers") else 1]) for name in free}
    assert tops <= {"features", "classifier", "encoder.layers.encoder_layer_11", "encoder", "layer4"}
    assert not any(name.startswith(("features.25", "layer3", "conv_proj")) for name in free)


def test_frozen_layers_stay_as_they_were(store, tmp_path):
    torch.manual_seed(0)
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    config = {"weights": str(tmp_path / "resnet18.pth"), "trained": "last-block", "size": 32, "epochs": 1}
    build("finetune:resnet18", config).fit(store, np.arange(12), tmp_path / "fit", NONE)
    from safetensors.torch import load_file

    before, after = torch.load(tmp_path / "resnet18.pth"), load_file(tmp_path / "fit" / "weights.safetensors")
    prefix = "network.body.1."
    assert torch.equal(after[f"{prefix}layer3.0.conv1.weight"], before["layer3.0.conv1.weight"])
    assert not torch.equal(after[f"{prefix}layer4.0.conv1.weight"], before["layer4.0.conv1.weight"])


def test_what_is_missing_is_named(store, tmp_path):
    bare = make_store(tmp_path / "bare", classes=("", "blast"))
    with pytest.raises(CellfeatError, match="resnext: lacks labels: 12 of the 24 cells have none"):
        build("resnext", QUICK).fit(bare, np.arange(24), tmp_path / "bare-fit", NONE)
    config = QUICK | {"weights": str(tmp_path / "none.pth")}
    with pytest.raises(CellfeatError, match=r"none.pth: no such file; give the path of local weights"):
        build("resnext", config).fit(store, np.arange(12), tmp_path / "fit", NONE)
