"""The log of what people say of cells."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellfeat.errors import CannotWrite, CellfeatError, Damaged
from cellfeat.view.annotations import AnnotationLog, read_log

CLASSES = ("blast", "monocyte")


def new_log(path, store="s" * 64) -> AnnotationLog:
    return AnnotationLog(path, store, CLASSES)


def test_a_line_tells_who_when_where_and_what(tmp_path):
    log = new_log(tmp_path / "annotations" / "ada.jsonl")
    log.save("ada", "label", ["a", "b"], "monocyte", ["blast", ""])
    said = log.save("ada", "label", ["b"], "blast", [""])
    first, second = said.lines
    assert (first["user"], first["store"], first["cells"]) == ("ada", "s" * 64, ["a", "b"])
    assert (first["old"], first["new"]) == (["blast", ""], "monocyte")
    assert second["old"] == ["monocyte"]  # what the log said, not the store
    assert first["time"].endswith("+00:00")
    assert said.values["label"] == {"a": "monocyte", "b": "blast"}


def test_undo_takes_back_the_last_own_line_and_the_log_only_grows(tmp_path):
    log = new_log(tmp_path / "log.jsonl")
    log.save("ada", "flag", ["a"], True)
    log.save("bob", "note", ["a"], "why?")
    before = log.path.read_bytes()
    said = log.undo("ada")
    assert said.values["flag"] == {}
    assert said.values["note"] == {"a": "why?"}
    assert log.path.read_bytes().startswith(before)
    with pytest.raises(CellfeatError, match="nothing of ada"):
        log.undo("ada")


def test_two_windows_that_write_at_once_lose_nothing(tmp_path):
    logs = [new_log(tmp_path / "log.jsonl") for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: logs[k % 2].save("ada", "note", [f"c{k}"], f"note {k}"), range(24)))
    assert logs[0].read().values["note"] == {f"c{k}": f"note {k}" for k in range(24)}


def test_a_line_that_was_cut_is_left_out_and_swallows_no_other(tmp_path, caplog):
    log = new_log(tmp_path / "log.jsonl")
    log.save("ada", "flag", ["a"], True)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[:40])
    said = log.save("ada", "flag", ["b"], True)
    assert said.values["flag"] == {"a": True, "b": True}
    assert "line 2 is left out" in caplog.text


def test_what_is_no_log_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    for line in ([], {"kind": "label"}, {**dict.fromkeys(("id", "time", "user", "store"), ""), "kind": "flag"}):
        path.write_text(json.dumps(line) + "\n")
        with pytest.raises(Damaged, match="line 1: no line of an annotation log"):
            read_log(path)
    path.unlink()
    new_log(path).save("ada", "flag", ["a"], True)
    with pytest.raises(CellfeatError, match="about another store"):
        new_log(path, "t" * 64)


def test_a_log_does_not_lead_elsewhere(tmp_path):
    aim = tmp_path / "precious.txt"
    aim.write_text("")
    (tmp_path / "log.jsonl").symlink_to(aim)
    with pytest.raises(CannotWrite, match=r"log\.jsonl"):
        new_log(tmp_path / "log.jsonl").save("ada", "flag", ["a"], True)
    assert aim.read_text() == ""
