from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cellfeat.core.lightning_trainer import BestEpoch, Stopping, check_finite, fit
from cellfeat.core.tracking import tracking
from cellfeat.errors import CannotWrite, CellfeatError


class Batches(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, k):
        return torch.full((1,), float(k))


class Line(lightning.LightningModule):
    """One weight; `scores` gives the score of each epoch."""

    def __init__(self, scores=(0.0, 1.0, 2.0)):
        super().__init__()
        self.layer, self.scores, self.epochs = torch.nn.Linear(1, 1), scores, []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return DataLoader(Batches(), batch_size=None)

    def on_after_batch_transfer(self, batch, _):
        return type("Batch", (), {"rows": batch, "x": batch})

    def training_step(self, batch, _):
        return self.layer(batch.x).square().mean()

    def on_train_epoch_end(self):
        self.epochs.append(self.current_epoch)
        self.log("score", self.scores[self.current_epoch])


def train(folder, module, epochs, callbacks=()):
    fit(module, folder, title="line", epochs=epochs, cells=2, callbacks=callbacks)
    return module


@pytest.mark.parametrize("damage", ["cut", "changed", "of another network", "of another program", "a folder"])
def test_a_damaged_checkpoint_is_one_line_and_stays(tmp_path, damage):
    train(tmp_path, Line(), 1)
    last = tmp_path / "last.ckpt"
    content = last.read_bytes()
    if damage == "a folder":
        last.unlink()
        last.mkdir()
    elif damage.startswith("of another"):
        state = torch.load(last, weights_only=True)
        torch.save(state | {"state_dict": {}} if damage == "of another network" else {"weights": [1.0]}, last)
    else:
        last.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x80\x02}q\x00.")
    said = r"last.ckpt: (not a (readable )?checkpoint|cannot go on from this checkpoint|is no file).*; remove it"
    with pytest.raises(CellfeatError, match=said) as stop:
        train(tmp_path, Line(), 2)
    assert "\n" not in str(stop.value)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    train(tmp_path, Line(), 1)
    before = (tmp_path / "last.ckpt").read_bytes()

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(CannotWrite, match=r"last.ckpt: No space left on device; free space"):
        train(tmp_path, Line(), 2)
    monkeypatch.undo()
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert train(tmp_path, Line(), 2).epochs == [1]


def test_a_checkpoint_is_written_beside_the_old_one_and_not_in_tmpdir(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    train(tmp_path / "run", Line(), 1)
    assert (tmp_path / "run" / "last.ckpt").is_file()


def test_epochs_before_the_earliest_are_neither_the_best_nor_waited_for(tmp_path):
    module = Line(scores=(9.0, 8.0, 1.0, 2.0, 1.5, 1.4, 1.3))
    train(tmp_path, module, 7, [Stopping(patience=2, earliest=2), BestEpoch(tmp_path, earliest=2)])
    assert module.epochs == [0, 1, 2, 3, 4, 5]  # two epochs after the best, 3
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["epoch"] == 3


def test_a_number_that_is_not_finite_names_the_cells():
    check_finite(1.0, "here", "wait", np.array(["a"]))
    with pytest.raises(CellfeatError, match=r"^step 3: the loss is inf; look at these cells or wait: a#0, b#0$"):
        check_finite(float("inf"), "step 3: the loss", "wait", np.array(["a#0", "b#0"]))


def test_losses_and_history_are_handed_on(tmp_path):
    told = []
    module = Line()
    module.history = [{"epoch": 0, "score": 0.5, "note": "x"}]
    with tracking(lambda *numbers: told.append(numbers)):
        train(tmp_path / "checkpoints", module, 2)
    assert [(folder, step, set(values)) for folder, step, values in told] == [
        (tmp_path, 0, {"loss", "score"}),
        (tmp_path, 1, {"loss", "score"}),
    ]
