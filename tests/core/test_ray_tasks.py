"""Work shared out to Ray; it skips where Ray is not installed."""

import math

import pytest

from cellfeat.core.files import read_json
from cellfeat.core.ray_tasks import on_ray
from cellfeat.errors import CellfeatError


def test_calls_come_back_with_their_numbers_and_an_error_as_it_was_raised(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.json").write_text("1")
    assert dict(on_ray(math.sqrt, [(16.0,), (9.0,), (4.0,)], "local")) == {0: 4.0, 1: 3.0, 2: 2.0}
    found = on_ray(read_json, [("one.json",), ("nowhere.json",)], "local")
    with pytest.raises(CellfeatError, match=r"nowhere\.json: no such file"):
        list(found)
