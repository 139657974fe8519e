"""SIGKILL at each step between two file operations, of what a pipeline's stages leave: whole, or noticed as not."""

import signal

import faults
import numpy as np
import torch
from fault_injection import Steps, inject
from known_stores import make_store

from cellfeat.core.lightning_trainer import WholeCheckpoints
from cellfeat.core.run_record import STAGE, RunRecord
from cellfeat.errors import Damaged
from cellfeat.evaluation import EvaluationConfig, evaluate
from cellfeat.reporting.material import read_evaluation
from cellfeat.store import write_embeddings
from cellfeat.workflows.pipeline import Stage, _is_done


def killed_at_each_step(folder, job, stride=1):
    """Yield after `job` was killed, in a child, before its first writing operation, one `stride` later, and so on."""
    step = 0
    while True:

        def run(at=step):
            inject(folder, Steps(), "kill", at)
            job()

        status = faults.ended(faults.child(run))
        if status == 0:
            return
        assert status == -signal.SIGKILL
        yield step
        step += stride


def test_of_a_checkpoint_the_old_or_the_new_one_stays(tmp_path):
    path, found = tmp_path / "checkpoints" / "last.ckpt", set()
    WholeCheckpoints().save_checkpoint({"epoch": 0, "weight": torch.zeros(3)}, path)
    state = {"epoch": 1, "weight": torch.ones(3)}
    for _ in killed_at_each_step(path.parent, lambda: WholeCheckpoints().save_checkpoint(state, path)):
        read = torch.load(path, weights_only=True)
        assert read["weight"].tolist() == [read["epoch"]] * 3
        found.add(read["epoch"])
    assert 0 in found
    assert torch.load(path, weights_only=True)["epoch"] == 1


def test_a_stage_killed_before_its_record_is_in_place_is_done_again(tmp_path):
    folder = tmp_path / "dump"
    stage = Stage("dump", {}, lambda folder: (folder / "result").write_text("whole"), costly=True)

    def job():
        record = RunRecord(folder, {"seed": 1}, name=STAGE)
        if not _is_done(stage, record):
            record.begin()
            stage.make(folder)
            record.done()

    for _ in killed_at_each_step(tmp_path, job, stride=2):
        job()  # neither refused nor taken for whole
        assert (folder / "result").read_text() == "whole"
        faults.shutil.rmtree(folder)


def test_an_evaluation_half_replaced_is_noticed(tmp_path):
    store = make_store(tmp_path / "store", {"a": ("blast", "monocyte")}, per_class=6)
    table, folder = store.table(), tmp_path / "evaluation"
    z = np.random.default_rng(0).normal(size=(len(table), 2)).astype(np.float32)
    said = {"method": "noise", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", table["cell_id"], z, said)

    def evaluated(neighbours):
        chosen = {"protocols": ["paper"], "classifiers": ["knn"], "neighbours": neighbours}
        evaluate(store, [tmp_path / "z.h5"], folder, EvaluationConfig(runs=1, bootstrap=0, min_cells=2, **chosen))

    evaluated(1)
    seen = []
    for _ in killed_at_each_step(folder, lambda: evaluated(3), stride=3):
        try:
            seen.append(read_evaluation(folder, store, {}).config["neighbours"])
        except Damaged:
            seen.append("noticed")
        if seen[-1] == 3:  # killed after the last file was in place
            evaluated(1)
    assert {1, "noticed"} <= set(seen)
    assert read_evaluation(folder, store, {}).config["neighbours"] == 3
