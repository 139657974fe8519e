"""The registry of weights, and the command on it."""

from __future__ import annotations

import hashlib
import json

import pytest
from torchvision.models import get_model_weights

from cellfeat.cli import main
from cellfeat.core import weights
from cellfeat.core.weights import REGISTRY, Weights
from cellfeat.methods.hub import ENTRY


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELLFEAT_OFFLINE", "1")
    return tmp_path / "cache"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["weights", *arguments])
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err


def test_every_entry_is_whole_and_torchvisions_are_its_own():
    for name, entry in REGISTRY.items():
        assert all(vars(entry).values())
        assert set(entry.sha256) <= set("0123456789abcdef")
        assert len(entry.sha256) in (8, 64)
        if name.startswith("imagenet-"):
            assert entry.url == get_model_weights(name.removeprefix("imagenet-"))[ENTRY].url


def test_list_get_and_verify(cache, tmp_path, capsys, monkeypatch):
    content = b"a network"
    entry = Weights("tests", "http://nowhere.invalid/net.pth", hashlib.sha256(content).hexdigest(), "MIT", "a card")
    monkeypatch.setattr(weights, "REGISTRY", {"net": entry})
    assert "net                      absent  for tests\n" in run(capsys, "list")[1]
    status, _, err = run(capsys, "get", "net")
    assert status == 2
    assert "CELLFEAT_OFFLINE forbids downloads" in err
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/net.pth").write_bytes(content)
    monkeypatch.setenv("CELLFEAT_MIRROR", str(tmp_path / "mirror"))
    assert run(capsys, "get", "net")[:2] == (0, f"{cache / 'net.pth'}\n")
    [found] = json.loads(run(capsys, "list", "--json")[1])["weights"]
    assert (found["state"], found["licence"], found["url"]) == ("cached", "MIT", entry.url)
    assert run(capsys, "verify")[:2] == (0, "net                      verified\n")
    (cache / "net.pth").write_bytes(b"damaged")
    status, out, _ = run(capsys, "verify", "--json")
    assert (status, "its sha256 is" in json.loads(out)["net"]) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["get"], "no name is given"), (["get", "none"], "'none': not listed")]
)
def test_what_is_not_listed_is_named(capsys, cache, arguments, words):
    status, _, err = run(capsys, *arguments)
    assert (status, words in err) == (2, True)
