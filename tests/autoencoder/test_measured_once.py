from __future__ import annotations

import numpy as np
import pytest
import torch

from cellfeat.autoencoder import AutoencoderConfig, train_autoencoder
from cellfeat.autoencoder import measured_once as module
from cellfeat.autoencoder.measured_once import measured_once


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The folder of what was measured, empty yet."""
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "measured"


class Measuring:
    """Counts how often it is asked."""

    calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return {"numbers": torch.full((1000,), float(self.calls))}


def test_the_same_cells_are_measured_once_and_others_anew(make_store, measured):
    store, rows, measure = make_store(), np.arange(5), Measuring()
    first = measured_once(store, rows, {"what": "size"}, measure)
    torch.testing.assert_close(measured_once(store, rows, {"what": "size"}, measure), first, rtol=0, atol=0)
    assert measure.calls == 1
    for other in ((store, rows + 1, {"what": "size"}), (store, rows, {"what": "colour"})):
        measured_once(*other, measure)
    measured_once(make_store(cells=12, name="other"), rows, {"what": "size"}, measure)
    assert measure.calls == 4


def test_a_file_that_is_damaged_or_cannot_be_written_is_no_loss(make_store, measured):
    store, rows, measure = make_store(), np.arange(5), Measuring()
    measured_once(store, rows, {}, measure)
    (file,) = measured.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    assert measured_once(store, rows, {}, measure)["numbers"][0] == 2
    assert measured_once(store, rows, {}, measure)["numbers"][0] == 2

    file.unlink()
    measured.rmdir()
    measured.write_text("in the way")
    assert measured_once(store, rows, {}, measure)["numbers"][0] == 3


def test_what_was_not_used_for_longest_makes_room(make_store, measured, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 9000)  # two of 4,000 bytes
    store, measure = make_store(), Measuring()
    for what in ("first", "second", "first", "third"):
        measured_once(store, np.arange(5), {"what": what}, measure)
    assert len([*measured.iterdir()]) == 2
    assert measured_once(store, np.arange(5), {"what": "first"}, measure)["numbers"][0] == 1
    assert measured_once(store, np.arange(5), {"what": "second"}, measure)["numbers"][0] == 4

    monkeypatch.setattr(module, "LIMIT", 3000)
    measured_once(store, np.arange(5), {"what": "too large"}, measure)
    assert len([*measured.iterdir()]) == 2


@pytest.mark.usefixtures("narrow_image_decoder")
def test_another_seed_measures_nothing_and_trains_as_if_it_had(make_store, measured, tmp_path, monkeypatch):
    store, rows = make_store(), np.arange(18)
    settings = {"preset": "transfer", "epochs": 1, "batch_size": 8, "image_fraction": 0.01, "anchor": "matek"}
    expected = train_autoencoder(store, tmp_path / "alone", AutoencoderConfig(**settings, seed=1), rows)
    for file in measured.iterdir():
        file.unlink()
    train_autoencoder(store, tmp_path / "first", AutoencoderConfig(**settings), rows)
    assert len([*measured.iterdir()]) == 3  # channels, profiles, thumbnails
    for measuring in ("scaling.channel_statistics", "objectives.profile.measure", "objectives.thumbnail.read_crops"):
        monkeypatch.setattr(f"cellfeat.autoencoder.{measuring}", None)
    again = train_autoencoder(store, tmp_path / "second", AutoencoderConfig(**settings, seed=1), rows)
    assert again.read_bytes() == expected.read_bytes()
