"""Images by URL: a web server of this machine, and fsspec's files in memory."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest

from cellfeat.data import urls
from cellfeat.data.dataset import Dataset
from cellfeat.data.images import read_rgb
from cellfeat.data.outside import outside_paths
from cellfeat.data.paths import open_paths
from cellfeat.data.spec import parse_spec
from cellfeat.data.urls import bring_all
from cellfeat.errors import CellfeatError, MissingRequirement


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of three pictures each and a table that names their patients."""
    monkeypatch.setenv("CELLFEAT_CACHE", str(tmp_path / "cache"))
    root, rng = tmp_path / "smears", np.random.default_rng(0)
    for k in range(6):
        path = root / ("lymphocyte" if k % 2 else "monocyte") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (8, 9, 3), np.uint8))
    (root / "notes.zip").write_bytes(b"not asked for")
    return root


@pytest.fixture(params=["http", "memory", "file"])
def url(request, folder):
    """The folder by a URL of each kind."""
    if request.param == "file":
        yield folder.as_uri()
    elif request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.put(str(folder), "/smears", recursive=True)
        yield "memory://smears"
        memory.rm("/smears", recursive=True)
    else:
        handler = functools.partial(_Quiet, directory=folder.parent)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/smears"
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_folder_by_url_is_the_folder_itself(folder, url):
    (here,), (there,) = open_paths([str(folder)]), open_paths([url])
    expected, found = here.records(), there.records()
    assert [record.identity for record in found] == [record.identity for record in expected]
    assert {record.label for record in found} == {"lymphocyte", "monocyte"}
    assert [record.path.stat().st_size for record in found] == [record.path.stat().st_size for record in expected]
    assert not any(record.path.read_bytes().strip(b"\0") for record in found)  # nothing was fetched yet
    np.testing.assert_array_equal(read_rgb(found[0].path), read_rgb(expected[0].path))
    bring_all(record.path for record in found)
    assert [record.path.read_bytes() for record in found] == [record.path.read_bytes() for record in expected]


def test_what_was_fetched_is_kept_and_what_is_gone_goes(folder, monkeypatch):
    url = folder.as_uri()
    (first,) = open_paths([url])
    bring_all(record.path for record in first.records())
    with monkeypatch.context() as patch:
        patch.setattr(urls, "_fetch", None)
        (again,) = open_paths([url])
        assert len([read_rgb(record.path) for record in again.records()]) == 6
    (folder / "monocyte" / "0.png").unlink()
    (folder / "monocyte" / "2.png").write_bytes((folder / "monocyte" / "4.png").read_bytes() + b"longer")
    (changed,) = open_paths([url])
    paths = {record.path.name: record.path for record in changed.records()}
    assert len(paths) == 5
    np.testing.assert_array_equal(read_rgb(paths["2.png"]), read_rgb(paths["4.png"]))


def test_images_that_were_fetched_first_make_room_and_are_fetched_again(folder, monkeypatch):
    monkeypatch.setattr(urls, "FRESH", 0)
    monkeypatch.setattr(urls, "_fetched", 0)
    paths = [record.path for record in open_paths([folder.as_uri()])[0].records()]
    room = sum(path.stat().st_size for path in paths[-2:])
    monkeypatch.setenv(urls.LIMIT, str((room + 1) / 2**30))
    first = []
    for k, path in enumerate(paths):
        first.append(read_rgb(path))
        os.utime(path, (k + 1, k + 1))  # file systems count time in steps of milliseconds
    urls._make_room(room)
    assert [urls.is_pending(path) for path in paths] == [True] * 4 + [False] * 2
    assert paths[0].stat().st_size == (folder / paths[0].parent.name / paths[0].name).stat().st_size
    for path, picture in zip(paths, first):
        np.testing.assert_array_equal(read_rgb(path), picture)


def test_one_that_is_removed_while_it_is_read_is_no_unreadable_image(folder, monkeypatch):
    (dataset,) = open_paths([folder.as_uri()])
    monkeypatch.setattr("cellfeat.data.images.bring", lambda path: None)
    with pytest.raises(CellfeatError, match="another process made room for its own images; run again") as error:
        read_rgb(dataset.records()[0].path)
    assert type(error.value) is CellfeatError


@pytest.mark.parametrize("written", ["much", "-1", "inf", "nan"])
def test_the_room_for_images_is_a_number(folder, monkeypatch, written):
    monkeypatch.setenv(urls.LIMIT, written)
    (dataset,) = open_paths([folder.as_uri()])
    with pytest.raises(CellfeatError, match=f"CELLFEAT_URL_CACHE: '{written}' is no number of GiB; write"):
        bring_all(record.path for record in dataset.records())


def test_a_glob_and_one_image(folder):
    (dataset,) = open_paths([f"{folder.as_uri()}/mono*/*.png"])
    assert [record.path.name for record in dataset.records()] == ["0.png", "2.png", "4.png"]
    (dataset,) = open_paths([f"{folder.as_uri()}/lymphocyte/3.png"])
    assert [read_rgb(record.path).shape for record in dataset.records()] == [(8, 9, 3)]


def test_a_dataset_may_have_its_images_elsewhere_if_the_user_says_so(folder, tmp_path):
    text = f"title: T\ndomain: d\nlicence: L\ncitation: C\nlabels: {{kind: folder}}\nimages: {folder.as_uri()}\n"
    with pytest.raises(CellfeatError, match="--allow-outside"):
        parse_spec(text, "dataset.yaml", "mine")
    with outside_paths():
        dataset = Dataset(parse_spec(text, "dataset.yaml", "mine"), tmp_path)
    assert len(dataset.records()) == 6


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://nowhere", "memory://nowhere: no such folder or file; correct"),
        ("http://127.0.0.1:9/smears", r"http://127\.0\.0\.1:9/smears: cannot be read \(.*\); see that"),
        ("gopher://host/smears", r"gopher://host/smears: cannot be read \(Protocol not known"),
    ],
)
def test_what_cannot_be_had_is_one_line(folder, url, words):
    with pytest.raises(CellfeatError, match=words):
        open_paths([url])


def test_a_package_that_lacks_is_named(folder, monkeypatch):
    def lacks(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(urls, "_opened", lacks)
    with pytest.raises(MissingRequirement, match="s3://bucket/x: Install s3fs to access S3; install that package"):
        open_paths(["s3://bucket/x"])


def test_a_damaged_note_of_the_source_is_one_line(folder):
    (dataset,) = open_paths([folder.as_uri()])
    (dataset.folder.parent / urls.SOURCE).write_text("[]")
    with pytest.raises(CellfeatError, match=r"source\.json: is not as cellfeat wrote it .*; name the URL again"):
        bring_all([dataset.records()[0].path])


def test_an_image_that_cannot_be_fetched_is_no_unreadable_image(folder):
    (dataset,) = open_paths([folder.as_uri()])
    first = dataset.records()[0].path
    Path(folder / first.parent.name / first.name).unlink()
    with pytest.raises(CellfeatError, match=rf"{first.name}: no such folder or file"):
        read_rgb(first)
