"""HDF5 files on disks that are too small: HDF5 alone ends the process at some of these sizes."""

import errno
import os

import faults
import h5py
import numpy as np
import pytest
from known_stores import make_store

from cellfeat.store import write_embeddings
from cellfeat.store.export import export
from cellfeat.store.new_hdf5 import new_hdf5

resource = pytest.importorskip("resource")  # POSIX
CELLS = np.random.default_rng(0).normal(size=(40, 100))


def write(path):
    with new_hdf5(path) as file:
        for k in range(20):
            file.create_dataset(f"group/{k}", data=CELLS, chunks=(8, 100), compression="gzip")
            file[f"group/{k}"].attrs["name"] = "x" * 100


def answer(path, limit, job):
    """The number of the OSError of a job in a child whose files may have `limit` bytes."""
    seen = path.with_suffix(".answer")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            job()
        except OSError as error:
            seen.write_text(f"{error.errno}")

    assert faults.ended(faults.child(limited)) == 0
    return int(seen.read_text()) if seen.exists() else 0


def test_of_a_file_too_large_the_disk_s_answer_is_raised(tmp_path):
    write(tmp_path / "whole")
    size = os.path.getsize(tmp_path / "whole")
    for limit in (*range(0, size, size // 20), size - 1):
        assert answer(tmp_path / f"{limit}", max(limit, 8), lambda: write(tmp_path / "cut")) == errno.EFBIG
    with h5py.File(tmp_path / "whole") as file:
        np.testing.assert_array_equal(file["group/19"][:], CELLS)


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(ValueError, match=r"^a defect$"), new_hdf5(tmp_path / "a"):
        raise ValueError("a defect")


@pytest.mark.parametrize("name", ["a.h5ad", "a.h5sc"])
def test_an_export_to_a_full_disk(tmp_path, name):
    pytest.importorskip("anndata")
    store = make_store(tmp_path / "store", {"a": ("blast", "monocyte")}, per_class=3)
    said = {"method": "noise", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "z.h5", store.table()["cell_id"], np.eye(6, dtype=np.float32), said)

    def job():
        export(store, tmp_path / name, embeddings=[tmp_path / "z.h5"])

    job()
    size = os.path.getsize(tmp_path / name)
    (tmp_path / name).unlink()
    for limit in (size // 3, size // 2, size - 1):
        assert answer(tmp_path / f"{limit}", limit, job) == errno.EFBIG
        assert not (tmp_path / name).exists()
