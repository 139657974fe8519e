from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cellfeat.autoencoder import AutoencoderConfig, load_autoencoder, train_autoencoder
from cellfeat.autoencoder.data import CellDataset
from cellfeat.autoencoder.objectives import Alignment
from cellfeat.core.files import read_json
from cellfeat.errors import CellfeatError, DifferentInputs
from cellfeat.store import Store

pytestmark = pytest.mark.usefixtures("narrow_image_decoder")

QUICK = AutoencoderConfig(epochs=2, batch_size=8, image_fraction=0.01, anchor="matek")


def losses(output_dir) -> pd.DataFrame:
    return pd.read_csv(output_dir / "metrics.csv").drop(columns="cells_per_second")


def test_a_run_leaves_weights_card_split_and_metrics(make_store, tmp_path, caplog):
    store, output_dir = make_store(), tmp_path / "run"
    weights = train_autoencoder(store, output_dir, QUICK)
    _, card = load_autoencoder(weights)
    assert card["domains"] == ["matek", "acevedo", "int"]
    assert card["anchor"] == "matek"
    assert card["config"] == QUICK.model_dump()
    assert card["store_digest"] == store.digest
    split = pd.read_csv(output_dir / "split.csv")
    assert split["cell_id"].tolist() == store.table()["cell_id"].tolist()
    assert card["cells"] == (split["part"] == "train").sum() < len(store)
    assert "# AE-CFE" in (output_dir / "MODEL_CARD.md").read_text()
    metrics = pd.read_csv(output_dir / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1]
    assert card["metrics"]["loss"] == pytest.approx(metrics["loss"].iloc[-1])
    total = metrics["feature_loss"] + metrics["image_loss"] + metrics["beta"] * metrics["alignment_loss"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    assert (metrics.filter(regex="^(sd|effective_rank)_") > 0).all(axis=None)

    before = weights.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        train_autoencoder(store, output_dir, QUICK)
    assert "trained before" in caplog.text
    assert weights.stat().st_mtime_ns == before
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    train_autoencoder(store, output_dir, QUICK)  # written again from its checkpoint
    assert weights.read_bytes() == content
    with pytest.raises(DifferentInputs, match=r"run: was made with config.beta = 5.0, now it is 1.0"):
        train_autoencoder(store, output_dir, QUICK.model_copy(update={"beta": 1.0}))
    with pytest.raises(DifferentInputs, match=r"was made with store_digest = .*; choose another output folder"):
        train_autoencoder(make_store(cells=12, name="other"), output_dir, QUICK)


TRANSFER = AutoencoderConfig(preset="transfer", epochs=2, batch_size=8, image_fraction=0.01, anchor="matek")


@pytest.mark.parametrize("config", [QUICK, TRANSFER], ids=["paper", "transfer"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(make_store, tmp_path, monkeypatch, config):
    store = make_store()
    whole = train_autoencoder(store, tmp_path / "whole", config)

    read, batches = CellDataset.__getitem__, []

    def read_until_killed(self, index):
        batches.append(index)
        if len(batches) == 5:  # in the second epoch of three batches
            raise ConnectionAbortedError
        return read(self, index)

    monkeypatch.setattr(CellDataset, "__getitem__", read_until_killed)
    with pytest.raises(ConnectionAbortedError):
        train_autoencoder(store, tmp_path / "resumed", config)
    monkeypatch.setattr(CellDataset, "__getitem__", read)
    assert not (tmp_path / "resumed" / "autoencoder.safetensors").exists()
    checkpoint = torch.load(tmp_path / "resumed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert [row["epoch"] for row in checkpoint["history"]] == [0]

    resumed = train_autoencoder(store, tmp_path / "resumed", config)
    pd.testing.assert_frame_equal(losses(whole.parent), losses(resumed.parent))
    expected = load_file(whole)
    for name, tensor in load_file(resumed).items():
        assert torch.equal(tensor, expected[name]), name


def test_training_lowers_the_loss(make_store, tmp_path):
    patterns = np.random.default_rng(1).standard_normal((2, 256, 14, 14))
    store = make_store(features=patterns[np.arange(16) % 2])
    config = AutoencoderConfig(epochs=6, batch_size=4, image_fraction=0.01, beta=0.0)
    train_autoencoder(store, tmp_path / "run", config)
    metrics = losses(tmp_path / "run")
    assert metrics["feature_loss"].iloc[-1] < 0.8 * metrics["feature_loss"].iloc[0]
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0]


def test_one_domain_trains_without_alignment_and_a_collapse_is_reported(make_store, tmp_path, caplog):
    store = make_store(cells=16, domains=("int",), features=np.zeros((16, 256, 14, 14)))
    config = AutoencoderConfig(epochs=1, batch_size=1500, image_fraction=0.01)
    train_autoencoder(store, tmp_path / "run", config)
    assert "one domain (int): training without alignment" in caplog.text
    assert "the latent of domain int has collapsed (sd 0, effective rank 1)" in caplog.text
    assert losses(tmp_path / "run")["alignment_loss"].tolist() == [0.0]


def test_presets_set_what_is_not_given():
    assert AutoencoderConfig(preset="paper") == AutoencoderConfig()
    assert AutoencoderConfig().kl_reduction == "sum"  # equation 5
    assert AutoencoderConfig(preset="code").kl_reduction == "mean"  # torch's kl_div with its default reduction
    assert Alignment.formula(AutoencoderConfig()) == "L_DA as in equation 5 of the paper"
    assert "1/2500 of equation 5" in Alignment.formula(AutoencoderConfig(preset="code"))
    for preset in ("paper", "code"):  # section 3.2 of the paper
        config = AutoencoderConfig(preset=preset)
        assert (config.epochs, config.lr, config.batch_size, config.beta) == (150, 0.001, 1500, 5.0)
        assert config.test_fraction == 0.2
    assert TRANSFER.network == "pooled"
    assert TRANSFER.scaling == "domain"
    assert TRANSFER.epochs == 2
    assert AutoencoderConfig.model_validate(TRANSFER.model_dump()) == TRANSFER
    for name in ("profile_weight", "thumbnail_weight"):
        with pytest.raises(ValueError, match=f"{name} needs the network pooled"):
            AutoencoderConfig.model_validate({name: 1})


def test_profiles_and_thumbnails_enter_the_total_and_profiles_start_low(make_store, tmp_path):
    config = TRANSFER
    train_autoencoder(make_store(), tmp_path / "run", config)
    metrics = losses(tmp_path / "run")
    parts = metrics["feature_loss"] + metrics["image_loss"] + metrics["beta"] * metrics["alignment_loss"]
    parts += config.profile_weight * metrics["profile_loss"] + config.thumbnail_weight * metrics["thumbnail_loss"]
    np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-5)
    assert metrics["profile_loss"].iloc[0] < 0.5  # 1 without the warm start: profiles are standardised
    assert metrics["thumbnail_loss"].iloc[0] == pytest.approx(1, abs=0.2)  # standardised too, and nothing known yet


def test_a_cosine_schedule_ends_at_rest(make_store, tmp_path):
    store = make_store()
    config = QUICK.model_copy(update={"schedule": "cosine", "epochs": 3})
    train_autoencoder(store, tmp_path / "run", config)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_first_try_that_failed_does_not_block_a_corrected_one(make_store, tmp_path, monkeypatch):
    store = make_store(cells=6)

    def fails(self, index):
        raise ConnectionAbortedError

    monkeypatch.setattr(CellDataset, "__getitem__", fails)
    with pytest.raises(ConnectionAbortedError):
        train_autoencoder(store, tmp_path / "run", QUICK)
    monkeypatch.undo()
    train_autoencoder(store, tmp_path / "run", QUICK.model_copy(update={"beta": 1.0, "epochs": 1}))
    assert read_json(tmp_path / "run" / "record.json")["done"]


def test_a_last_batch_of_one_cell_is_learned_from(make_store, tmp_path):
    """Its latent has no standard deviation, which a relative alignment divided by."""
    config = TRANSFER.model_copy(update={"batch_size": 4, "epochs": 1})
    train_autoencoder(make_store(cells=5), tmp_path / "run", config, np.arange(5))
    assert np.isfinite(losses(tmp_path / "run")["loss"]).all()


def test_refusals_name_what_is_wrong(make_store, tmp_path):
    with pytest.raises(CellfeatError, match="'paris' is not a domain of the store; choose one of: acevedo, int, matek"):
        train_autoencoder(make_store(), tmp_path / "run", QUICK.model_copy(update={"anchor": "paris"}))
    with pytest.raises(CellfeatError, match="crops are 64x64x3"):
        train_autoencoder(make_store(cells=6, crop_size=64, name="small"), tmp_path / "run", QUICK)
    assert not (tmp_path / "run").exists()


def test_beta_rises_linearly():
    config = AutoencoderConfig(beta=4.0, beta_warmup_epochs=4)
    assert [config.beta_at(epoch) for epoch in range(6)] == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    assert AutoencoderConfig().beta_at(0) == 5.0


def test_two_processes_align_the_statistics_of_the_global_batch(make_store, tmp_path):
    store = make_store(cells=8, domains=("a", "b"))
    # Adam's first step goes by the gradients' signs, which rounding decides where weights start at 0, as in transfer.
    tolerance = {"code": 1e-3, "transfer": 1e-2}
    runs = {
        preset: {"preset": preset, "epochs": 2, "batch_size": 8, "beta": 50.0, "anchor": "a"} for preset in tolerance
    }

    def train():
        for preset, settings in runs.items():
            train_autoencoder(Store(store.path), tmp_path / f"two-{preset}", AutoencoderConfig(**settings))

    # What torchrun calls; its processes would import PyTorch and Lightning for 6 s each, forked ones have them.
    processes = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork")
    elastic_launch(processes, train)()
    for preset, rtol in tolerance.items():
        train_autoencoder(store, tmp_path / f"one-{preset}", AutoencoderConfig(**runs[preset]))
        two = tmp_path / f"two-{preset}"
        pd.testing.assert_frame_equal(losses(two), losses(tmp_path / f"one-{preset}"), rtol=rtol)
        assert read_json(two / "autoencoder.json")["cells"] == 6
