from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from crop_stores import CLASSES, make_store

from cellfeat.errors import CellfeatError
from cellfeat.methods import build, classifier
from cellfeat.methods.mdd import disparity, reverse_gradient, warm_start
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

QUICK = {"epochs": 1, "batch_size": 8, "width": 16, "lr": 0.01, "size": 32, "model": "shufflenet_v2_x0_5"}


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", cells=36)


def domain_rows(store: Store) -> tuple[np.ndarray, np.ndarray]:
    return store.select(domain="site-a"), store.select(domain="site-b")


def test_disparity_by_hand():
    """Source: σ = (3/4, 1/4) and the class is the first; target: σ = (1/5, 3/5, 1/5), the class is the second."""
    source = torch.log(torch.tensor([[3.0, 1.0]]))
    two_classes = torch.log(torch.tensor([[1.0, 3.0]]))
    expected = 4 * math.log(3 / 4) + math.log(1 - 3 / 4)
    found = disparity(source, two_classes, torch.tensor([0]), torch.tensor([1]), margin=4)
    assert float(found) == pytest.approx(expected, rel=1e-6)

    source = torch.log(torch.tensor([[3.0, 1.0, 0.5], [1.0, 1.0, 2.0]]))
    target = torch.log(torch.tensor([[1.0, 3.0, 1.0]]))
    expected = 2 * (math.log(3 / 4.5) + math.log(2 / 4)) / 2 + math.log(2 / 5)
    found = disparity(source, target, torch.tensor([0, 2]), torch.tensor([1]), margin=2)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_disparity_is_finite_where_the_adversary_is_certain():
    target = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    found = disparity(torch.zeros(1, 3), target, torch.tensor([0]), torch.tensor([0]), margin=4)
    found.backward()
    assert float(found.detach()) == pytest.approx(4 * math.log(1 / 3) + math.log(2) - 200, rel=1e-6)
    np.testing.assert_allclose(target.grad, [[-1, 0.5, 0.5]], atol=1e-6)


def test_the_gradient_comes_back_reversed():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [-0.75, -1.25]


def test_the_warm_start_rises_from_nothing_towards_its_highest():
    assert warm_start(0, 1000, 0.1) == 0
    assert warm_start(1000, 1000, 0.1) == pytest.approx(0.1 * (math.e - 1) / (math.e + 1))
    steps = [warm_start(step, 1000, 0.1) for step in range(0, 20000, 500)]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(0.1, rel=1e-3)


def test_it_learns_the_source_and_names_the_target(tmp_path):
    store = make_store(tmp_path / "store", cells=72)
    source, target = domain_rows(store)
    method = build("mdd", QUICK | {"epochs": 8, "earliest": 7, "batch_size": 6, "width": 64})
    assert method.needs == {"labels"}
    method.fit(store, source, tmp_path / "mdd", target)
    classes, probabilities = method.predict(store, np.concatenate([target, source]), tmp_path / "mdd")
    assert classes == CLASSES
    assert probabilities.shape == (72, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    truth = store.table()["label"].to_numpy()[np.concatenate([target, source])]
    assert (np.array(classes)[probabilities.argmax(1)] == truth).mean() > 0.8  # chance is a third
    assert not (tmp_path / "mdd" / "checkpoints").exists()


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(store, tmp_path, monkeypatch):
    source, target = domain_rows(store)
    method = build("mdd", QUICK | {"epochs": 3, "lr_epochs": 1, "selection": "entropy", "earliest": 0})
    method.fit(store, source, tmp_path / "whole", target)

    step, steps = classifier.ClassifierModule.training_step, []

    def killed(self, *arguments):
        steps.append(1)
        if len(steps) == 7:  # in the last of three epochs of three steps
            raise ConnectionAbortedError
        return step(self, *arguments)

    monkeypatch.setattr(classifier.ClassifierModule, "training_step", killed)
    with pytest.raises(ConnectionAbortedError):
        method.fit(store, source, tmp_path / "resumed", target)
    monkeypatch.setattr(classifier.ClassifierModule, "training_step", step)

    def killed_then(path, ignore_errors):
        remove(path, ignore_errors)
        raise ConnectionAbortedError

    remove = classifier.shutil.rmtree
    monkeypatch.setattr(classifier.shutil, "rmtree", killed_then)
    with pytest.raises(ConnectionAbortedError):  # again, when all is written and its checkpoints were dropped
        method.fit(store, source, tmp_path / "resumed", target)
    monkeypatch.undo()
    assert not (tmp_path / "resumed/checkpoints").exists()
    method.fit(store, source, tmp_path / "resumed", target)
    assert (tmp_path / "resumed/metrics.csv").read_text() == (tmp_path / "whole/metrics.csv").read_text()
    metrics = pd.read_csv(tmp_path / "whole/metrics.csv")
    assert (metrics["score"] == -metrics["entropy"]).all()
    assert metrics["snd"].between(0, np.log(17)).all()  # of the target's 18 cells
    np.testing.assert_allclose(metrics["loss"], metrics["classification_loss"] + metrics["transfer_loss"], rtol=1e-4)
    assert metrics["accuracy"].between(0, 1).all()
    whole, resumed = (method.predict(store, target, tmp_path / name)[1] for name in ("whole", "resumed"))
    np.testing.assert_array_equal(resumed, whole)


def test_labels_of_the_target_change_nothing(tmp_path):
    """The same cells, once with the target's labels and once with others in their place."""
    probabilities = []
    for name in ("true", "false"):
        store = make_store(tmp_path / name, cells=24)
        if name == "false":
            store = relabelled(store, tmp_path / "relabelled")
        source, target = domain_rows(store)
        method = build("mdd", QUICK)
        method.fit(store, source, tmp_path / f"fit-{name}", target)
        probabilities.append(method.predict(store, target, tmp_path / f"fit-{name}")[1])
    np.testing.assert_array_equal(*probabilities)


def relabelled(store: Store, path) -> Store:
    """The same cells; those of site-b are all smudges."""
    table = store.table()
    with StoreWriter(path, store.feature_shape, store.layout.crop_size, {}, shard_cells=10) as writer:
        for row, cell in table.iterrows():
            label = "smudge_cell" if cell["domain"] == "site-b" else cell["label"]
            arrays = {name: store.read(name, [row])[0] for name in ("features", "crops", "masks", "boxes")}
            new = CellRow(arrays["features"], arrays["crops"], arrays["masks"], arrays["boxes"], 0.9, label)
            writer.add(ImageResult(cell["image_id"], cell["domain"], label, 32, 32, "", [new]))
    return Store(path)


def test_a_site_may_be_its_own_target(store, tmp_path):
    """In a table of every site by every site the diagonal is fitted too: the same cells with and without labels."""
    rows = store.select(domain="site-a")
    method = build("mdd", QUICK)
    method.fit(store, rows[:12], tmp_path / "mdd", rows)
    classes, probabilities = method.predict(store, rows, tmp_path / "mdd")
    assert classes == CLASSES
    assert probabilities.shape == (18, 3)


def test_what_is_missing_is_named(store, tmp_path):
    source, target = domain_rows(store)
    method = build("mdd", QUICK)
    with pytest.raises(CellfeatError, match="mdd: lacks a target: 0 cells"):
        method.fit(store, source, tmp_path / "mdd", target[:0])
    bare = make_store(tmp_path / "bare", classes=("",))
    with pytest.raises(CellfeatError, match="mdd: lacks labels: 12 of the 12 cells have none"):
        method.fit(bare, np.arange(12), tmp_path / "bare-fit", np.arange(12, 24))
    with pytest.raises(CellfeatError, match="model 'resnet19': torchvision has none of this name"):
        build("mdd", QUICK | {"model": "resnet19"}).fit(store, source, tmp_path / "other", target)
    method.fit(store, source[:12], tmp_path / "one-site", source[12:])
    with pytest.raises(CellfeatError, match="mdd was not fitted for the domain 'site-b'"):
        method.predict(store, target, tmp_path / "one-site")


def test_sources_are_pooled_and_a_domain_like_the_target_is_tested(tmp_path):
    """Two sites with labels, WBC1 without, WBC2 unseen: it is normalised by WBC1's colours."""
    store = make_store(tmp_path / "store", cells=32, domains=("a", "b", "wbc1", "wbc2"), classes=CLASSES[:2])
    rows = np.concatenate([store.select(domain="a"), store.select(domain="b")])
    method = build("mdd", QUICK)
    method.fit(store, rows, tmp_path / "mdd", store.select(domain="wbc1"))
    _, classes, dataset = method.load(store, tmp_path / "mdd")
    assert classes == CLASSES[:2]
    place = dataset.normalisation.number
    assert sorted(place) == ["a", "b", "wbc1", "wbc2"]
    for statistic in (dataset.normalisation.mean, dataset.normalisation.sd):
        assert torch.equal(statistic[place["wbc2"]], statistic[place["wbc1"]])
        assert not torch.equal(statistic[place["a"]], statistic[place["wbc1"]])
    assert method.predict(store, store.select(domain="wbc2"), tmp_path / "mdd")[1].shape == (8, 2)


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_cells(store, tmp_path, monkeypatch):
    source, target = domain_rows(store)
    monkeypatch.setattr("cellfeat.methods.mdd.weighted_cross_entropy", lambda *_: torch.tensor(math.nan))
    with pytest.raises(CellfeatError, match=r"epoch 0, step 0: the loss is nan; .*: site-[ab]/\d+.png#0, "):
        build("mdd", QUICK).fit(store, source, tmp_path / "mdd", target)


def test_crops_are_brought_to_the_size_that_is_asked_for(store, tmp_path):
    source, target = domain_rows(store)
    build("mdd", QUICK | {"size": 48}).fit(store, source, tmp_path / "mdd", target)
    network, _, dataset = build("mdd", QUICK | {"size": 48}).load(store, tmp_path / "mdd")
    seen = []
    network.backbone[1].register_forward_hook(lambda layer, images, _: seen.append(images[0].shape))
    network(dataset[source[:2], 0].images)
    assert seen == [(2, 3, 48, 48)]
