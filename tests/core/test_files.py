import hashlib

import pandas as pd
import pytest

from cellfeat.core.files import as_written, atomic_path, digest, read_json, sha256_file, write_json, write_text
from cellfeat.core.lock import FolderLock
from cellfeat.errors import CannotWrite, CellfeatError


def test_a_failed_write_leaves_what_stood(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_json(path, {"not json": object()})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(CellfeatError, match=r"a\.txt: a folder is where this file goes; move it away"):
        write_text(tmp_path / "a.txt", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_half_character_of_a_file_name_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "a.txt", "caf\udce9.png")
    write_json(tmp_path / "a.json", {"file": "caf\udce9.png"})
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\udce9.png"
    assert read_json(tmp_path / "a.json") == {"file": "caf\udce9.png"}


def test_a_folder_deleted_under_pandas_is_named(tmp_path):
    folder = tmp_path / "deleted"
    with pytest.raises(FileNotFoundError) as error, atomic_path(folder / "a.csv") as partial:
        deleted_before_writing(folder, partial)
    assert error.value.filename == str(folder / "a.csv")


def deleted_before_writing(folder, path):
    folder.rmdir()
    pd.DataFrame({"a": [1]}).to_csv(path)


def test_nothing_is_begun_again_where_a_held_folder_was(tmp_path):
    folder = tmp_path / "run"
    with FolderLock(folder):
        write_text(folder / "a/b.txt", "x")
        folder.rename(tmp_path / "moved")
        with pytest.raises(CannotWrite, match="run: was moved or removed while it was written"):
            write_text(folder / "a/b.txt", "y")
        write_text(tmp_path / "beside.txt", "x")
        assert not folder.exists()
    write_text(folder / "a/b.txt", "z")  # nobody holds it any more


def test_json_round_trip_keeps_unicode(tmp_path):
    write_json(tmp_path / "a.json", {"µm": 0.1})
    assert read_json(tmp_path / "a.json") == {"µm": 0.1}


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CellfeatError, match=r"a\.json"):
        read_json(path)


@pytest.mark.parametrize("content", [{}, [], None, {"rows": 3}, {"rows": {}}, {"rows": ["x"]}])
def test_a_record_of_another_form_is_one_line(content):
    said = r"^a\.json: is not as cellfeat wrote it \(.*\); run again$"
    with pytest.raises(CellfeatError, match=said), as_written("a.json", "run again"):
        int(content["rows"][0])


def test_digests():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
