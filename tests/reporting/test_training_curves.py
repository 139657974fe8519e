from __future__ import annotations

import pytest

from cellfeat.reporting.training_curves import autoencoder_curves, classifier_curves, detector_curves


def test_entropy_and_density_of_every_epoch_are_drawn(tmp_path):
    (tmp_path / "one.csv").write_text("epoch,loss,entropy,snd\n0,2.0,1.5,3.1\n1,1.0,1.2,3.4\n")
    (tmp_path / "two.csv").write_text("epoch,loss,entropy,snd\n0,2.1,1.6,3.0\n")
    (tmp_path / "torn.csv").write_text("")
    drawn = classifier_curves({name: tmp_path / f"{name}.csv" for name in ("one", "two", "torn")})
    assert drawn["epochs"] == 2
    assert drawn["panels"] == [
        *("whole loss", "entropy of the target's predictions", "soft neighbourhood density of the target"),
    ]
    assert drawn["uri"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    "log", [b'\xff\xfe{"iteration": 1, "total_loss": 2}', b'{"iteration": "x", "total_loss": [1]}\n']
)
def test_a_damaged_log_has_no_curves(tmp_path, log):
    (tmp_path / "metrics.json").write_bytes(log)
    (tmp_path / "metrics.csv").write_bytes(log)
    assert detector_curves(tmp_path) is None
    assert autoencoder_curves(tmp_path) is None


def test_what_logged_nothing_has_no_curves(tmp_path):
    (tmp_path / "metrics.csv").write_text("")
    (tmp_path / "metrics.json").write_text('{"iteration": 5, "tot')
    assert classifier_curves({"a": tmp_path / "metrics.csv"}) is None
    assert classifier_curves({}) is None
    assert autoencoder_curves(tmp_path) is None
    assert detector_curves(tmp_path) is None
