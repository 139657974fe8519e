"""Weights from a hub: a server on this machine in place of torchvision's."""

from __future__ import annotations

import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from torchvision.models import get_model_weights

from cellfeat.errors import CellfeatError, MissingWeights
from cellfeat.methods import build
from cellfeat.methods.base import demand
from cellfeat.methods.hub import download, hub_url, local_weights

CONTENT = b"weights of a small network"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def address(tmp_path):
    """A server with a good and a damaged file."""
    (tmp_path / "served").mkdir()
    for name in (f"net-{DIGEST[:8]}.pth", "net-00000000.pth", "net.pth"):
        (tmp_path / "served" / name).write_bytes(CONTENT)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_and_has_the_digest_of_its_name(address, tmp_path):
    path = download(f"{address}/net-{DIGEST[:8]}.pth", tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    (tmp_path / "served" / path.name).unlink()
    assert download(f"{address}/{path.name}", tmp_path / "cache") == path  # it is there: nobody is asked
    path.write_bytes(b"damaged")
    with pytest.raises(CellfeatError, match=r"its sha256 is .*; remove the file and download it again"):
        download(f"{address}/{path.name}", tmp_path / "cache")


def test_what_is_another_file_or_cannot_be_reached_is_one_line_and_leaves_nothing(address, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(CellfeatError, match=r"net-00000000.pth: its sha256 is \w+, not 00000000"):
        download(f"{address}/net-00000000.pth", cache)
    with pytest.raises(MissingWeights, match=r"none-00000000.pth: cannot be downloaded .*; download it elsewhere"):
        download(f"{address}/none-00000000.pth", cache)
    with pytest.raises(MissingWeights, match="cannot be downloaded"):
        download("http://127.0.0.1:9/net-00000000.pth", cache)  # nobody listens there
    with pytest.raises(CellfeatError, match="ends in no digest"):
        download(f"{address}/net.pth", cache)
    assert list(cache.iterdir()) == []


def test_the_addresses_are_torchvisions_own():
    for name in ("resnet101", "vgg16", "vgg19", "vit_b_16", "resnext50_32x4d"):
        assert hub_url(name) == get_model_weights(name)["IMAGENET1K_V1"].url
        assert "-" in hub_url(name)
    with pytest.raises(CellfeatError, match="model 'vgg17': torchvision has none"):
        hub_url("vgg17")


def test_methods_of_the_hub_need_no_file(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints"
    cached.mkdir(parents=True)
    for name, model in (("resnet", "resnet101"), ("finetune:vgg16", "vgg16"), ("finetune:vit_b_16", "vit_b_16")):
        method = build(name, {"pretrained": True})
        demand(method, store, range(len(store)))  # nothing is missing beforehand
        (cached / hub_url(model).rpartition("/")[2]).write_bytes(b"another file")
        with pytest.raises(CellfeatError, match=f"{model}-.*its sha256 is"):
            local_weights(model, None, method.config.pretrained)
    assert local_weights("vgg16", "mine.pth", True) == "mine.pth"
    assert local_weights("vgg16", None, False) is None
