"""What the server of `cellfeat view` answers."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from store_helpers import change
from view_names import ACCESS, HOSTILE, halves

from cellfeat.errors import CellfeatError
from cellfeat.store import Store
from cellfeat.view.data import Cells
from cellfeat.view.security import MAX_BODY
from cellfeat.view.server import PAGE, application
from cellfeat.view.uploads import MAX_BYTES, Uploads

STATIC = files("cellfeat.view") / "static"


def test_the_page_loads_its_own_files_alone(view_client):
    page = view_client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script(?![^>]*src)|<style|\son\w+=|https?://", page.text)
    for name in PAGE:
        answer = view_client.get("/" if name == "index.html" else f"/static/{name}")
        assert answer.content == (STATIC / name).read_bytes()
    imported = {found for name in PAGE if name.endswith(".js") for found in _imports((STATIC / name).read_text())}
    assert imported <= {f"/static/{name}" for name in PAGE}


def _imports(script: str) -> list[str]:
    return re.findall(r'from "(/[^"]+)"', script)


def test_our_scripts_make_no_html_of_texts():
    for name in PAGE:
        if name.endswith(".js") and not name.startswith("vendor/"):
            script = (STATIC / name).read_text()
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_the_vendored_file_is_what_its_digest_says():
    for line in (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def test_names_are_json_texts(view_client):
    told = view_client.get("/api/store")
    assert told.headers["content-type"] == "application/json"
    by_name = {column["name"]: column for column in told.json()["columns"]}
    assert HOSTILE in by_name["label"]["names"]
    assert HOSTILE in by_name["domain"]["names"]
    assert told.json()["maps"] == [{"name": HOSTILE, "reason": ""}]
    assert HOSTILE in view_client.get("/api/cell/0").json()["image_id"]


def test_columns_and_maps_are_little_endian(view_client, view_cells):
    for number, column in enumerate(view_cells.columns):
        dtype = "<f4" if column.is_number else "<i4"
        sent = np.frombuffer(view_client.get(f"/api/column/{number}").content, dtype)
        np.testing.assert_array_equal(sent, column.values)
    sent = np.frombuffer(view_client.get("/api/map/0").content, "<f4").reshape(2, -1)
    np.testing.assert_array_equal(sent.T, view_cells.maps[0].points)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/cell/16", 404),
        ("/api/crop/16", 404),
        ("/api/column/99", 404),
        ("/api/map/1", 404),
        ("/api/cell/-1", 422),
        ("/api/cell/9999999999999999999999", 422),
        ("/api/crop/1e1", 422),
        ("/api/crops?rows=0,16", 404),
        ("/api/crops?rows=0,", 422),
        ("/api/crops?rows=" + ",".join(["0"] * 65), 422),
        ("/api/heat/0/0", 404),
        ("/api/crop/..%2f..%2fmanifest.json", 404),
        ("/static/../data.py", 404),
        ("/static/..%2fdata.py", 404),
        ("/static/%2e%2e/%2e%2e/server.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/vendor/SHA256SUMS", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
        (f"/{HOSTILE}", 404),
    ],
)
def test_nothing_else_is_found(view_client, path, status):
    answer = view_client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"


def test_crops_are_pictures(view_client):
    for path in ("/api/crop/0", "/api/crop/0?outline=true"):
        answer = view_client.get(path)
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")
    assert view_client.post("/api/crop/0", headers={"origin": ACCESS.link.split("/?")[0]}).status_code == 405


def test_crops_come_side_by_side_in_the_order_asked_for(view_client, view_cells):
    rows = [9, 2, 2, 14]
    answer = view_client.get("/api/crops", params={"rows": ",".join(map(str, rows))})
    assert answer.headers["content-type"] == "image/jpeg"
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)))
    crops = np.concatenate(list(view_cells.stores.read("crops", rows)), axis=1)
    assert sheet.shape == crops.shape
    assert np.corrcoef(sheet.ravel(), crops.ravel())[0, 1] > 0.5  # JPEG of coloured noise
    np.testing.assert_array_equal(crops[:, 16:32], crops[:, 32:48])
    outlined = view_client.get("/api/crops", params={"rows": "9", "outline": True})
    assert outlined.content != view_client.get("/api/crops", params={"rows": "9"}).content


def test_a_shard_that_is_overwritten_while_the_page_is_open_is_told(view_store, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(view_store.path, path, ignore=shutil.ignore_patterns("embeddings", ".index.npz"))
    client = TestClient(application(Cells(Store(path)), ACCESS), base_url="http://127.0.0.1:8765")
    client.get(ACCESS.link)
    assert client.get("/api/crop/0").status_code == 200
    shard = path / "shards" / "part-00000.h5"
    shard.write_bytes(shard.read_bytes())  # as many bytes, at another time
    for address in ("/api/crop/0", "/api/crops?rows=0,1"):
        answer = client.get(address)
        assert answer.status_code == 409
        assert "was changed after the store was opened" in answer.json()["detail"]


def test_a_forged_store_is_refused_before_anything_is_shown(view_store, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(view_store.path, path, ignore=shutil.ignore_patterns("embeddings", ".index.npz"))

    def forge(handle):
        crops = handle["crops"][:]
        del handle["crops"]
        handle.create_dataset("crops", data=crops[:, :4])

    change(path, forge)
    with pytest.raises(CellfeatError, match=re.escape("part-00000.h5")):
        Cells(Store(path))


def test_nothing_can_be_written_unless_asked_for(view_client):
    mine = {"origin": "http://127.0.0.1:8765"}
    assert view_client.get("/api/store").json()["annotate"] is False
    assert view_client.get("/api/annotations").status_code == 404
    for path in ("/api/annotations", "/api/undo"):
        answer = view_client.post(path, json={"rows": [0], "kind": "label", "new": "blast"}, headers=mine)
        assert answer.status_code == 404


def test_labels_flags_and_notes_are_saved_and_undone(view_cells, view_log):
    client = TestClient(application(view_cells, ACCESS, view_log, "ada"), base_url="http://127.0.0.1:8765")
    client.get(ACCESS.link)
    client.headers["origin"] = "http://127.0.0.1:8765"

    def save(rows, kind, new):
        return client.post("/api/annotations", json={"rows": rows, "kind": kind, "new": new})

    assert save([1, 3], "label", "monocyte").json()["label"] == {"1": "monocyte", "3": "monocyte"}
    assert save([1], "flag", True).json()["flag"] == {"1": True}
    assert save([2], "note", HOSTILE).json()["note"] == {"2": HOSTILE}
    assert client.post("/api/undo").json()["note"] == {}
    told = client.get("/api/annotations").json()
    assert (told["lines"], told["user"], told["flag"]) == (4, "ada", {"1": True})
    assert view_log.read().lines[0]["old"] == view_cells.table["label"][[1, 3]].tolist()
    before = view_log.path.read_bytes()
    for rows, kind, new, status in (
        ([99], "label", "blast", 404),
        ([-1], "label", "blast", 422),
        ([1, 1], "label", "blast", 409),
        ([1], "label", "no such class", 409),
        ([1], "flag", "yes", 409),
        ([1], "note", "x" * 2001, 422),
        ([1], "note", "\0", 409),
        ([1], "file", "x", 422),
        ([], "label", "blast", 422),
        (["1"], "label", "blast", 422),
    ):
        assert save(rows, kind, new).status_code == status
    assert client.post("/api/annotations", content=b"[" * 5000).status_code in (400, 422)  # FastAPI 0.110: 400
    client.headers["origin"] = "http://evil.example"
    assert save([1], "label", "blast").status_code == 403
    assert view_log.path.read_bytes() == before


@pytest.fixture
def upload_client(view_cells) -> TestClient:
    client = TestClient(application(view_cells, ACCESS, uploads=Uploads(halves)), base_url="http://127.0.0.1:8765")
    client.get(ACCESS.link)
    client.headers["origin"] = "http://127.0.0.1:8765"
    return client


def picture(suffix: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)).save(file, suffix)
    return file.getvalue()


def test_a_picture_that_is_sent_comes_back_with_its_cells(upload_client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = upload_client.post("/api/upload", content=picture()).json()
    assert (told["width"], told["height"], len(told["cells"])) == (40, 20, 2)
    assert told["cells"][1]["box"] == [20, 0, 40, 20]
    assert told["cells"][0]["classes"][0] == {"class": "blast", "probability": 0.75}
    assert told["cells"][0]["neighbours"][0] == {"row": 3, "distance": 0.5}
    address = f"/api/upload/{told['id']}"
    assert upload_client.get(address).headers["content-type"] == "image/jpeg"
    crop, heat = (upload_client.get(f"{address}/1{query}").content for query in ("", "?heat=true"))
    assert crop.startswith(b"\x89PNG")
    assert crop != heat
    assert list(tmp_path.iterdir()) == []  # nothing is kept on the disk
    for path in (f"{address}/2", "/api/upload/0123456789abcdef", "/api/upload/0123456789abcdef/0"):
        assert upload_client.get(path).status_code == 404
    assert upload_client.get("/api/upload/..%2fx").status_code in (404, 422)
    for _ in range(4):
        upload_client.post("/api/upload", content=picture())
    assert upload_client.get(address).status_code == 404  # only the last four are in memory


def test_what_is_no_picture_is_told_and_limits_hold(upload_client, view_client):
    for content in (b"", b"<svg onload='alert(1)'/>", picture()[:-400], b"%!PS\n(x) run"):
        answer = upload_client.post("/api/upload", content=content)
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith("the picture cannot be read: ")
        assert "/" not in answer.json()["detail"]  # no path of the machine
    assert upload_client.post("/api/upload", content=bytes(MAX_BYTES + 1)).status_code == 413
    assert upload_client.post("/api/undo", content=bytes(MAX_BODY + 1)).status_code == 413
    upload_client.headers["origin"] = "http://evil.example"
    assert upload_client.post("/api/upload", content=picture()).status_code == 403
    mine = {"origin": "http://127.0.0.1:8765"}
    assert view_client.post("/api/upload", content=b"x", headers=mine).status_code == 404  # unless asked for
    assert view_client.post("/api/upload", content=bytes(MAX_BODY + 1), headers=mine).status_code == 413


def test_a_look_at_the_log_costs_little_where_nothing_is_new(view_cells, view_log):
    client = TestClient(application(view_cells, ACCESS, view_log, "ada"), base_url="http://127.0.0.1:8765")
    client.get(ACCESS.link)
    view_log.save("bob", "flag", [view_cells.table["cell_id"][0]], True)
    assert client.get("/api/annotations?known=0").json()["flag"] == {"0": True}
    assert client.get("/api/annotations?known=1").json() == {"lines": 1, "user": "ada"}
