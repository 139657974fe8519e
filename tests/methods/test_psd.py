from __future__ import annotations

import numpy as np
import pytest
import torch
from crop_stores import make_store

from cellfeat.errors import CellfeatError
from cellfeat.methods import psd as module
from cellfeat.methods.psd import PSD, PSDConfig, codes, places

QUICK = PSDConfig(kernels=16, patch=8, step=4, iterations=4, patches=60, code_steps=5)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store")


def embedded(store, folder, **changes) -> np.ndarray:
    method = PSD(QUICK.model_copy(update=changes))
    method.fit(store, np.arange(0, len(store), 2), folder)
    return method.embed(store, folder)


def test_484_patches_of_a_crop_of_128_px():
    assert places(128, PSDConfig()) ** 2 == 484


def test_a_profile_is_the_mean_of_the_codes_of_every_patch(store, tmp_path):
    z = embedded(store, tmp_path / "psd")
    assert z.shape == (len(store), 16)
    layer = module._load(tmp_path / "psd" / "psd1.safetensors")
    crop = store.read("crops", [5])[0].astype(np.float32) / 255
    corners = range(0, 32 - 8 + 1, 4)
    patches = [crop[y : y + 8, x : x + 8].transpose(2, 0, 1).ravel() for y in corners for x in corners]
    one_by_one = layer.predict(layer.normalise(torch.from_numpy(np.stack(patches))))
    np.testing.assert_allclose(z[5], one_by_one.mean(0), atol=1e-4)
    most = embedded(store, tmp_path / "max", pooling="max")
    np.testing.assert_allclose(most[5], one_by_one.amax(0), atol=1e-4)


def test_a_second_layer_codes_the_codes_of_the_first(store, tmp_path):
    z = embedded(store, tmp_path / "psd", layers=2)
    assert z.shape == (len(store), 16)
    layers = [module._load(tmp_path / "psd" / f"psd{k}.safetensors") for k in (1, 2)]
    assert layers[1].dictionary.shape == (16, 16)
    crops = torch.from_numpy(store.read("crops", slice(0, 2)))
    assert codes(crops, layers, QUICK).shape == (2, 16, 3, 3)  # 7 x 7 patches, halved


def test_profiles_tell_the_classes_apart(store, tmp_path):
    z = embedded(store, tmp_path / "psd", iterations=8)
    label = store.table()["label"].to_numpy()
    train = np.arange(len(store)) % 4 < 2
    distance = np.linalg.norm(z[~train][:, None] - z[train][None], axis=2)
    nearest = label[train][distance.argmin(1)]
    assert (nearest == label[~train]).mean() > 0.8


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 2)
    whole = embedded(store, tmp_path / "whole")

    step, steps = module.Learner.step, []

    def killed(self, *arguments):
        steps.append(1)
        if len(steps) == 4:
            raise ConnectionAbortedError
        return step(self, *arguments)

    monkeypatch.setattr(module.Learner, "step", killed)
    with pytest.raises(ConnectionAbortedError):
        embedded(store, tmp_path / "resumed")
    monkeypatch.setattr(module.Learner, "step", step)
    save = module.save_tensors
    monkeypatch.setattr(module, "save_tensors", killed)
    steps[:] = [1] * 3
    with pytest.raises(ConnectionAbortedError):  # again, after its last checkpoint
        embedded(store, tmp_path / "resumed")
    monkeypatch.setattr(module, "save_tensors", save)
    np.testing.assert_array_equal(embedded(store, tmp_path / "resumed"), whole)
    assert not (tmp_path / "resumed" / "checkpoint1.pt").exists()


@pytest.mark.parametrize("broken", ["dictionary", "weight"])
def test_an_objective_that_is_no_number_stops_with_the_iteration_and_the_cells(store, tmp_path, monkeypatch, broken):
    """One learner's second step leaves a NaN behind; the third, which meets it, is named with its own cells."""
    step, batches = module.Learner.step, []

    def diverging(self, *arguments):
        measured = step(self, *arguments)
        batches.append(1)
        if len(batches) == 2:
            with torch.no_grad():
                getattr(self.psd, broken)[0, 0] = torch.nan
        return measured

    monkeypatch.setattr(module.Learner, "step", diverging)
    monkeypatch.setattr(module, "CELLS_PER_BATCH", 5)
    with pytest.raises(CellfeatError) as stop:
        embedded(store, tmp_path / "psd")
    message = str(stop.value)
    assert message.startswith("psd layer 1, iteration 2: the objective is nan; look at these cells or ")
    named = message.rpartition(": ")[2].split(", ")
    assert set(named) < set(store.table()["cell_id"][::2])
    _, rows = module._batches(store, np.arange(0, len(store), 2), QUICK, [], 1)(3)
    assert named == store.table()["cell_id"].to_numpy()[rows].tolist()


def test_what_does_not_fit_is_refused(store, tmp_path):
    with pytest.raises(CellfeatError, match=r"patches of 40 px \(patch\) do not fit into the store's crops of 32 px"):
        embedded(store, tmp_path / "psd", patch=40)
    with pytest.raises(CellfeatError, match=r"psd1.safetensors: no such file; fit the method first"):
        PSD(QUICK).embed(store, tmp_path / "psd")
    embedded(store, tmp_path / "psd")
    with pytest.raises(CellfeatError, match=r"was made with config.kernels = 16, now it is 8; choose another"):
        embedded(store, tmp_path / "psd", kernels=8)
    (tmp_path / "psd" / "psd1.safetensors").unlink()
    (tmp_path / "psd" / "checkpoint1.pt").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CellfeatError, match=r"checkpoint1.pt: not a checkpoint; remove it"):
        embedded(store, tmp_path / "psd")
