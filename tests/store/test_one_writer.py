"""A store has one writer, whose folder is not moved away, and links in it lead nowhere."""

from __future__ import annotations

import os
import shutil

import pytest
from store_helpers import PROVENANCE, SHAPE, SIDE, image, smear, write

from cellfeat.core.lock import LOCK
from cellfeat.errors import CannotWrite, CellfeatError
from cellfeat.store import Store, StoreWriter
from cellfeat.store.repair import repair

posix = pytest.mark.skipif(os.name != "posix", reason="links and locks are those of POSIX")


@posix
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "fifo", "folder"])
def test_a_lock_that_is_no_plain_file_is_refused(tmp_path, kind):
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    path = write(tmp_path / "store", smear())
    (path / LOCK).unlink()
    if kind == "symbolic":
        (path / LOCK).symlink_to(mine)
    elif kind == "dangling":
        (path / LOCK).symlink_to(tmp_path / "new.txt")
    elif kind == "hard":
        os.link(mine, path / LOCK)
    elif kind == "fifo":
        os.mkfifo(path / LOCK)
    else:
        (path / LOCK).mkdir()
    for job in (repair, lambda store: write(store, smear())):
        with pytest.raises(CellfeatError, match=r"\.lock: is a link or no regular file") as error:
            job(path)
        assert "\n" not in str(error.value)
    assert mine.read_text() == "three years"
    assert not (tmp_path / "new.txt").exists()


@posix
@pytest.mark.parametrize("name", ["dropped", "shards"])
def test_folders_that_lead_out_of_the_store_are_refused(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "part-00099.h5").write_text("mine")
    path = write(tmp_path / "store", smear())
    (path / "shards/part-00000.h5").write_text("damaged")
    if name == "shards":
        shutil.rmtree(path / name)
    (path / name).symlink_to(outside)
    with pytest.raises(CellfeatError, match=rf"{name}: is a link or a file where a store has a folder"):
        repair(path)
    if name == "shards":
        with pytest.raises(CellfeatError, match="is a link"):
            write(path, smear())
    assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("part-00099.h5", "mine")]


@posix
def test_a_link_in_the_way_of_a_temporary_file_is_not_followed(tmp_path):
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    path = write(tmp_path / "store", smear()[:4])
    (path / f".manifest.json.{os.getpid()}.partial").symlink_to(mine)
    write(path, smear())
    assert mine.read_text() == "three years"


@pytest.mark.parametrize("away", ["renamed", "removed"])
def test_a_store_moved_from_under_its_writer_is_an_error(tmp_path, away):
    path = tmp_path / "store"
    writer = StoreWriter(path, SHAPE, SIDE, PROVENANCE, shard_cells=2)
    writer.add(image(0, cells=2))
    writer.add(image(1))
    writer._settle()
    path.rename(tmp_path / "elsewhere")
    if away == "removed":
        shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(CannotWrite, match="moved or removed while it was written"):
        writer.close()
    assert not path.exists()  # no half of a store where it was
    if away == "renamed":
        assert Store(tmp_path / "elsewhere").verify() == []
        write(tmp_path / "elsewhere", smear())
