import json
import sys

from cellfeat.workflows.doctor import examine, report


def test_it_says_which_engine_runs_and_how_to_get_the_other(monkeypatch, data_root):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    found = examine()
    json.dumps(found)
    text = "\n".join(report(found))
    assert "engine: torchvision (Detectron2 cannot be imported" in text
    assert "missing: detectron2" in text
    assert "git clone" in text
    assert "site-a" in text


def test_a_package_that_detectron2_wants_is_named_as_the_repair(monkeypatch):
    from cellfeat.workflows.doctor import OPTIONS, _repair

    error = ModuleNotFoundError("No module named 'omegaconf'", name="omegaconf")
    assert _repair("detectron2", OPTIONS["detectron2"][1], error).startswith("pip install omegaconf")
