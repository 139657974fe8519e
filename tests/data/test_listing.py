import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from cellfeat.data import listing
from cellfeat.data.listing import find_images, glob_matcher


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(root / name, "png")


def names(root, pattern="**/*"):
    return list(find_images(root, pattern).files)


def test_what_systems_leave_behind_is_no_image(root):
    pictures(root, "b.PNG", "a.jpg", "sub/c.TiFf", "slide.tif/tile.png", "e.jfif")
    left = (
        *(".a.png", "._a.png", ".thumbnails/a.png", ".ipynb_checkpoints/a-checkpoint.png", "sub/.AppleDouble/a.png"),
        *("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a.png", "$RECYCLE.BIN/x.png", "#recycle/a.png"),
        *("System Volume Information/a.png", "lost+found/a.png", "sub/.@__thumb/a.png", "~$a.png"),
        *("~snapshot/a.png", "FOUND.000/a.png"),
    )
    pictures(root, *left)
    (root / "Thumbs.db").write_bytes(b"x")
    found = find_images(root)
    assert list(found.files) == ["a.jpg", "b.PNG", "e.jfif", "slide.tif/tile.png", "sub/c.TiFf"]
    assert set(found.left_out) == {listing.SYSTEM}
    assert len(found.left_out[listing.SYSTEM]) == len(left) + 1
    assert all(path.is_file() for path in found.files.values())


def test_a_hidden_folder_may_be_the_root(tmp_path):
    pictures(tmp_path, ".cache/a.png")
    assert names(tmp_path / ".cache") == ["a.png"]


def test_pictures_that_are_not_read_are_said(root):
    pictures(root, "a.png", "b.gif", "c.JP2", "d", "e.png_old")
    (root / "notes").write_text("no picture")
    (root / "labels.csv").write_bytes(b"\x89PNG")
    found = find_images(root)
    assert list(found.files) == ["a.png"]
    assert found.left_out == {listing.NOT_READ: ["b.gif", "c.JP2", "d", "e.png_old"]}


def test_pipes_sockets_and_broken_links_are_no_images(root):
    pictures(root, "a.png")
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe")
    os.symlink(root / "gone.png", root / "link.png")
    os.symlink(root / "circle.png", root / "circle.png")
    os.symlink(root / "circle", root / "circle")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(root / "s.png"))
    found = find_images(root)
    assert list(found.files) == ["a.png"]
    assert found.left_out == {listing.BROKEN_LINK: ["circle.png", "link.png"], listing.SPECIAL: ["pipe.png", "s.png"]}


def test_linked_folders_are_followed_once(root, tmp_path):
    pictures(root, "z/a.png")
    pictures(tmp_path, "elsewhere/b.png", "elsewhere/deep/c.png")
    os.symlink(tmp_path / "elsewhere", root / "linked")
    os.symlink(root, root / "z" / "circle")
    os.symlink(root / "z", root / "again")
    os.symlink(tmp_path / "elsewhere" / "b.png", root / "b.png")
    os.symlink(root / "z" / "a.png", root / "a.png")
    found = find_images(root)
    assert list(found.files) == ["linked/b.png", "linked/deep/c.png", "z/a.png"]
    assert sorted(found.left_out[listing.LISTED_TWICE]) == ["a.png", "again/", "b.png", "z/circle/"]


def test_names_that_are_no_unicode_are_said(root):
    pictures(root, "a.png", "b.png")
    os.rename(root / "b.png", os.fsencode(root) + b"/gr\xf6\xdfe.png")
    os.mkdir(os.fsencode(root) + b"/\xff")
    Image.new("L", (2, 2)).save(os.fsdecode(os.fsencode(root) + b"/\xff/c.png"))
    found = find_images(root)
    assert list(found.files) == ["a.png"]
    assert found.left_out == {listing.NOT_UNICODE: ["gr\\xf6\\xdfe.png", "\\xff/c.png"]}


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("**/*", ["a.png", "s/b.png", "s/images/c.png"]),
        ("*.png", ["a.png"]),
        ("*/*.PNG", ["s/b.png"]),
        ("**/images/*", ["s/images/c.png"]),
        ("**/*.png", ["a.png", "s/b.png", "s/images/c.png"]),
        ("[a-c].png", ["a.png"]),
        ("[!a].png", []),
        ("s/**", ["s/b.png", "s/images/c.png"]),
        ("?/b.png", ["s/b.png"]),
        ("../*", []),
    ],
)
def test_patterns(root, pattern, matches):
    pictures(root, "a.png", "s/b.png", "s/images/c.png")
    assert names(root, pattern) == matches


def test_a_pattern_of_many_folders_is_matched_in_linear_time():
    path = "/".join(["a"] * 30)
    assert not glob_matcher("**/" * 40 + "b")(path)
    assert glob_matcher("**/" * 40 + "a/**/a")(path)
    assert not glob_matcher("*a" * 60 + "b")("a" * 200)


def test_any_text_is_a_pattern():
    for pattern in ("[", "[]", "[]]", "(", "a[!", "\\", "[a\\]", "[z-a]", ""):
        assert not glob_matcher(pattern)("b")
    assert glob_matcher("A(1).png")("a(1).PNG")


def test_an_empty_folder_has_no_images(tmp_path):
    assert names(Path(tmp_path)) == []
