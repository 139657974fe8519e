import h5py
import numpy as np
import pytest

from cellfeat.errors import CellfeatError
from cellfeat.store import read_embeddings, write_embeddings

IDS = ["north/a.jpg#0", "north/a.jpg#1", "süd/b.jpg#0"]
Z = np.arange(12, dtype=np.float64).reshape(3, 4) / 7
ATTRIBUTES = {"method": "rcnn", "config": "{}", "store_digest": "0" * 64, "seed": 3, "scaled": True, "scale": 0.5}


def test_round_trip(tmp_path):
    path = tmp_path / "embeddings" / "rcnn.h5"
    write_embeddings(path, IDS, Z, ATTRIBUTES)
    found = read_embeddings(path)
    assert found.cell_id.tolist() == IDS
    assert found.z.dtype == np.float32
    np.testing.assert_array_equal(found.z, Z.astype(np.float32))
    assert found.attributes == ATTRIBUTES
    assert [file.name for file in path.parent.iterdir()] == ["rcnn.h5"]


def test_long_config(tmp_path):
    config = "x" * 100_000  # HDF5 keeps no more than 64 KiB beside the object
    write_embeddings(tmp_path / "e.h5", np.array(IDS), Z, {**ATTRIBUTES, "config": config})
    assert read_embeddings(tmp_path / "e.h5").attributes["config"] == config


@pytest.mark.parametrize(
    ("cell_id", "z", "attributes", "message"),
    [
        (IDS[:2], Z, ATTRIBUTES, r"cell_id \(2,\) and z \(3, 4\)"),
        (IDS, Z[:, 0], ATTRIBUTES, r"must be \(n,\) and \(n, d\)"),
        ([], np.empty((0, 4)), ATTRIBUTES, "not empty"),
        ([IDS[0], IDS[1], IDS[0]], Z, ATTRIBUTES, "'north/a.jpg#0' occurs more than once"),
        (IDS, np.where(Z[1, 1] == Z, np.nan, Z), ATTRIBUTES, "'north/a.jpg#1' is not finite"),
        (IDS, Z * 1e39, ATTRIBUTES, "not finite in float32"),
        (IDS, Z, {"method": "rcnn", "config": "{}"}, "lacks the attribute 'store_digest'"),
        (IDS, Z, {**ATTRIBUTES, "config": {}}, "'config' .* give JSON text"),
        (IDS, Z, {**ATTRIBUTES, "version": "9.0"}, "'version' is taken"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, cell_id, z, attributes, message):
    with pytest.raises(CellfeatError, match=message):
        write_embeddings(tmp_path / "e.h5", cell_id, z, attributes)
    assert list(tmp_path.iterdir()) == []


def test_refused_write_keeps_what_stood(tmp_path):
    path = tmp_path / "e.h5"
    write_embeddings(path, IDS, Z, ATTRIBUTES)
    before = path.read_bytes()
    with pytest.raises(CellfeatError):
        write_embeddings(path, IDS, Z * np.nan, ATTRIBUTES)
    assert path.read_bytes() == before


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "e.h5"
    with pytest.raises(CellfeatError, match="no such file; embed the store first"):
        read_embeddings(path)
    write_embeddings(path, IDS, Z, ATTRIBUTES)
    with h5py.File(path, "r+") as handle:
        handle.attrs["version"] = "2.0"
    with pytest.raises(CellfeatError, match="update cellfeat"):
        read_embeddings(path)
    with h5py.File(path, "r+") as handle:
        handle.attrs["version"] = "1.0"
        del handle["z"]
    with pytest.raises(CellfeatError, match="not an embeddings file or damaged"):
        read_embeddings(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CellfeatError, match="not an embeddings file or damaged"):
        read_embeddings(path)
