from __future__ import annotations

import pytest

from cellfeat.core.run_record import STAGE, RunRecord, differences
from cellfeat.errors import CellfeatError, DifferentInputs

INPUTS = {"config": {"lr": 0.1, "seed": 0}, "store": "abc"}
CHANGED = {"config": {"lr": 0.2, "seed": 0}, "store": "abc"}


def begun(folder, inputs=INPUTS, **options) -> RunRecord:
    record = RunRecord(folder, inputs, **options)
    assert not record.check()
    record.begin()
    return record


def test_a_finished_run_is_recognised_and_its_results_are_kept(tmp_path):
    begun(tmp_path / "run").done(seconds=1.5)
    record = RunRecord(tmp_path / "run", INPUTS)
    assert record.check()
    assert record.read()["seconds"] == 1.5


def test_a_finished_run_of_other_inputs_is_refused_by_the_key_that_differs(tmp_path):
    begun(tmp_path / "run").done()
    with pytest.raises(DifferentInputs, match=r"run: was made with config\.lr = 0\.1, now it is 0\.2; choose"):
        RunRecord(tmp_path / "run", CHANGED).check()


def test_an_unfinished_run_goes_on_with_what_it_left(tmp_path):
    begun(tmp_path / "run", resumable=("*.ckpt",))
    (tmp_path / "run" / "last.ckpt").write_text("half")
    record = RunRecord(tmp_path / "run", INPUTS, resumable=("*.ckpt",))
    record.begin()
    assert (tmp_path / "run" / "last.ckpt").exists()
    with pytest.raises(DifferentInputs):
        RunRecord(tmp_path / "run", CHANGED, resumable=("*.ckpt",)).check()


def test_a_failed_try_that_left_nothing_to_go_on_from_does_not_block_a_corrected_one(tmp_path):
    begun(tmp_path / "run", resumable=("*.ckpt",))
    (tmp_path / "run" / "log.txt").write_text("failed")
    record = RunRecord(tmp_path / "run", CHANGED, resumable=("*.ckpt",))
    assert not record.check()
    assert (tmp_path / "run" / "log.txt").exists()  # checking changes nothing
    record.begin()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["record.json"]
    assert record.read() == {"inputs": CHANGED, "done": False}


def test_a_folder_of_something_else_is_refused_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    begun(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("")
    with pytest.raises(CellfeatError, match="theirs: holds files of something else; choose another output folder"):
        RunRecord(tmp_path / "theirs", INPUTS).begin()
    assert (tmp_path / "theirs" / "thesis.tex").exists()


def test_a_kill_before_the_record_was_in_place_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".record.json.123.partial").write_text("{")
    begun(tmp_path / "run")


def test_cheap_results_of_other_inputs_are_replaced(tmp_path):
    begun(tmp_path / "run", cheap=True).done()
    (tmp_path / "run" / "plot.png").write_text("old")
    record = begun(tmp_path / "run", CHANGED, cheap=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["record.json"]
    assert record.read()["inputs"] == CHANGED


def test_discarding_removes_nothing_from_a_folder_without_a_record(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    RunRecord(tmp_path, INPUTS).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_kill_while_results_are_removed_does_not_leave_them_as_whole(tmp_path, monkeypatch):
    record = begun(tmp_path / "run", resumable=("*.ckpt",))
    (tmp_path / "run" / "last.ckpt").write_text("old")
    (tmp_path / "run" / "images").mkdir()
    record.done()
    with monkeypatch.context() as killed:
        killed.setattr("shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            record.discard()
    begun(tmp_path / "run", CHANGED, resumable=("*.ckpt",))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["record.json"]


def test_a_stage_and_the_run_inside_it_have_a_record_each(tmp_path):
    stage = begun(tmp_path / "run", name=STAGE)
    begun(tmp_path / "run").done()
    begun(tmp_path / "run", CHANGED, cheap=True).done()
    assert stage.read() == {"inputs": INPUTS, "done": False}
    stage.discard()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [STAGE]


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CellfeatError, match="run: is a file"):
        RunRecord(tmp_path / "run", INPUTS).check()


@pytest.mark.parametrize("text", ["[]", "{}", '{"inputs": 1, "done": false}', '{"inputs": {}, "done": [7]}', "{"])
def test_what_is_no_record_is_named(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(CellfeatError, match=r"record\.json"):
        RunRecord(tmp_path, INPUTS).check()


def test_differences_name_nested_keys_and_keys_of_one_side():
    assert list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "d": 4})) == [
        ("a.b", 1, 3),
        ("d", None, 4),
        ("c", 2, None),
    ]
