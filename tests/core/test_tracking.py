from __future__ import annotations

import pickle

import pytest

from cellfeat.core.tracking import TensorBoard, track, tracker, tracking


def test_callbacks_get_the_numbers_of_the_trainings_in_their_block(tmp_path):
    outer, inner = [], []
    track(tmp_path, 0, {"loss": 1.0})
    with tracking(lambda *told: outer.append(told)):
        with tracking(lambda *told: inner.append(told)):
            track(tmp_path, 1, {"loss": 2, "note": "no number"})
        track(tmp_path, 2, {"loss": 3})
    track(tmp_path, 3, {"loss": 4.0})
    assert outer == [(tmp_path, 1, {"loss": 2.0}), (tmp_path, 2, {"loss": 3.0})]
    assert inner == outer[:1]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert tracker(None) == ()
    with tracking(*tracker("tensorboard")):
        for step in range(3):
            track(tmp_path / "run", step, {"loss": 1 / (step + 1)})
    found = EventAccumulator(str(tmp_path / "run/tensorboard"))
    found.Reload()
    assert [(event.step, round(event.value, 3)) for event in found.Scalars("loss")] == [(0, 1.0), (1, 0.5), (2, 0.333)]
    assert isinstance(pickle.loads(pickle.dumps(TensorBoard())), TensorBoard)
