"""Downloads: a server on this machine in place of the network."""

from __future__ import annotations

import functools
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cellfeat.core.download import fetch
from cellfeat.errors import CellfeatError, MissingWeights

CONTENT = b"weights of a small network"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def address(tmp_path):
    """A server with a file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "net.pth").write_bytes(CONTENT)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("digest", [DIGEST, DIGEST[:8].upper()])
def test_a_file_is_downloaded_once_and_checked(address, cache, tmp_path, digest):
    path = fetch(f"{address}/net.pth", digest)
    assert path == cache / "net.pth"
    assert path.read_bytes() == CONTENT
    (tmp_path / "served" / "net.pth").unlink()
    assert fetch(f"{address}/net.pth", digest) == path  # it is there: nobody is asked
    path.write_bytes(b"damaged")
    with pytest.raises(CellfeatError, match=r"its sha256 is .*; remove the file and download it again"):
        fetch(f"{address}/net.pth", digest)


def test_what_is_another_file_or_cannot_be_reached_is_one_line_and_leaves_nothing(address, cache):
    with pytest.raises(CellfeatError, match=r"net.pth: its sha256 is \w+, not 00000000"):
        fetch(f"{address}/net.pth", "00000000")
    with pytest.raises(CellfeatError, match="not 26"):
        fetch(f"{address}/net.pth", "26")  # too short to tell one file from another
    with pytest.raises(
        MissingWeights, match=r"none.pth: cannot be downloaded .*404.*; download it elsewhere into .*cache"
    ):
        fetch(f"{address}/none.pth", DIGEST)
    with pytest.raises(MissingWeights, match="cannot be downloaded") as error:
        fetch("http://127.0.0.1:9/net.pth", DIGEST)  # nobody listens there
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


def test_offline_takes_what_is_there(address, cache, monkeypatch):
    monkeypatch.setenv("CELLFEAT_OFFLINE", "1")
    with pytest.raises(MissingWeights, match="CELLFEAT_OFFLINE forbids downloads"):
        fetch(f"{address}/net.pth", DIGEST)
    (cache / "net.pth").write_bytes(CONTENT)
    assert fetch(f"{address}/net.pth", DIGEST).read_bytes() == CONTENT


def test_a_mirror_is_a_folder_or_an_address(address, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFEAT_MIRROR", f"{address}/")
    assert fetch("http://nowhere.invalid/a/net.pth", DIGEST).read_bytes() == CONTENT
    (cache / "net.pth").unlink()
    monkeypatch.setenv("CELLFEAT_MIRROR", str(tmp_path / "served"))
    monkeypatch.setenv("CELLFEAT_OFFLINE", "1")  # a folder is no download
    assert fetch("http://nowhere.invalid/a/net.pth", DIGEST).read_bytes() == CONTENT
    with pytest.raises(MissingWeights, match=r"other.pth: no such file; put http://nowhere.invalid/other.pth there"):
        fetch("http://nowhere.invalid/other.pth", DIGEST)
