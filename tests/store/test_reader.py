import json
import multiprocessing
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_helpers import SHAPE, image, read_some, smear, write

from cellfeat.cli import main
from cellfeat.errors import CellfeatError
from cellfeat.store import Store, shards


def expected():
    """(image, cell, cell_id) in the order of the store."""
    for result in smear():
        for k, cell in enumerate(sorted(result.cells, key=lambda cell: -cell.score)):
            yield result, cell, f"{result.image_id}#{k}"


def test_round_trip(path):
    store, rows = Store(path), list(expected())
    table = store.table()
    assert len(store) == len(table) == len(rows) == 18
    assert len(store.manifest["shards"]) > 2
    assert list(table) == ["cell_id", "image_id", "domain", "label", "score", "x0", "y0", "x1", "y1", "detected_class"]
    assert table["cell_id"].tolist() == [name for _, _, name in rows]
    assert table["image_id"].tolist() == [result.image_id for result, _, _ in rows]
    assert table["domain"].tolist() == [result.domain for result, _, _ in rows]
    assert table["label"].tolist() == [cell.label for _, cell, _ in rows]
    everything = slice(None)
    np.testing.assert_array_equal(
        store.read("features", everything), np.stack([cell.feature for _, cell, _ in rows]).astype(np.float16)
    )
    np.testing.assert_array_equal(store.read("crops", everything), np.stack([cell.crop for _, cell, _ in rows]))
    np.testing.assert_array_equal(store.read("masks", everything), np.stack([cell.mask for _, cell, _ in rows]))
    np.testing.assert_array_equal(store.read("boxes", everything), np.stack([cell.box for _, cell, _ in rows]))
    np.testing.assert_array_equal(store.read("scores", everything), np.float32([cell.score for _, cell, _ in rows]))
    np.testing.assert_array_equal(table[["x0", "y0", "x1", "y1"]], store.read("boxes", everything))


def test_images_and_detection_rate(path):
    images = Store(path).images()
    assert images["image_id"].tolist() == [result.image_id for result in smear()]
    assert images["cells"].tolist() == [len(result.cells) for result in smear()]
    assert images["reason"].tolist() == [result.reason for result in smear()]
    assert images["width"].tolist() == [result.width for result in smear()]

    rates = Store(path).detection_rate()
    assert rates.loc["north"].tolist() == [6, 3, 6, 1, 0.5]
    assert rates.loc["south"].tolist() == [6, 6, 12, 1, 1.0]
    assert list(rates) == ["images", "with_cell", "cells", "unreadable", "rate"]


def test_table_is_the_callers_own(path):
    store = Store(path)
    table = store.table()
    table.loc[0, "label"] = "changed"
    assert store.table()["label"][0] != "changed"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 17)), name=st.sampled_from(["features", "crops", "masks", "boxes", "scores"]))
def test_any_rows_in_any_order(path, rows, name):
    store = Store(path)
    read = store.read(name, rows)
    np.testing.assert_array_equal(read, store.read(name, slice(None))[np.array(rows, int)])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.slices(18))
def test_any_slice(path, rows):
    np.testing.assert_array_equal(Store(path).read("crops", rows), Store(path).read("crops", slice(None))[rows])


@pytest.mark.parametrize("rows", [[18], [-1], [0, 1000]])
def test_rows_outside_are_refused(path, rows):
    with pytest.raises(CellfeatError, match=rf"row {rows[-1]} is outside the store's 0 to 17"):
        Store(path).read("features", rows)


@pytest.mark.parametrize("rows", [[0.5], [[1, 2]], 3, np.ones(18, bool)])
def test_rows_that_are_no_numbers_are_refused(path, rows):
    with pytest.raises(CellfeatError, match="give a slice or row numbers"):
        Store(path).read("features", rows)


def test_unknown_dataset_is_refused(path):
    with pytest.raises(CellfeatError, match="'embedding': no such dataset; read one of features, crops"):
        Store(path).read("embedding", [0])


def test_few_handles_are_held(path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    store = Store(path)
    np.testing.assert_array_equal(store.read("crops", [16, 0, 8, 3]), store.read("crops", slice(None))[[16, 0, 8, 3]])
    assert len(store.shards._handles) == 2


def test_store_without_cells(tmp_path):
    store = Store(write(tmp_path / "store", []))
    assert (len(store), len(store.table()), len(store.images()), len(store.detection_rate())) == (0, 0, 0, 0)
    assert store.read("features", slice(None)).shape == (0, *SHAPE)
    assert store.read("boxes", []).shape == (0, 4)
    assert store.verify() == []
    empty = Store(write(tmp_path / "empty", [image(0, cells=0)]))
    assert len(empty.table()) == 0
    assert empty.table().dtypes.equals(store.table().dtypes)
    assert empty.detection_rate()["rate"].tolist() == [0.0]


def test_digest_follows_the_content(tmp_path, path):
    again = write(tmp_path / "again", smear())
    other = write(tmp_path / "other", smear()[::-1])
    assert Store(again).digest == Store(path).digest != Store(other).digest


def test_labels_of_a_table_take_the_place_of_the_stores(path, tmp_path):
    """In everything that asks the store: what it reads, what is learned from it, what is exported."""
    store = Store(path)
    cells = store.table()["cell_id"]
    labels = tmp_path / "labels.csv"
    labels.write_text(f"cell_id,label\n{cells[3]},eosinophil\n{cells[5]},\n")
    other = pickle.loads(pickle.dumps(store.with_labels(labels)))
    assert other.table()["label"][[3, 5]].tolist() == ["eosinophil", ""]
    assert other.select(label="eosinophil").tolist() == [3]
    kept = [k for k in range(len(store)) if k not in (3, 5)]
    assert other.table()["label"][kept].tolist() == store.table()["label"][kept].tolist()
    assert other.digest == store.digest  # its embeddings are still of it
    with pytest.raises(SystemExit) as ended:
        main(["export", str(path), "--labels", str(labels), "--output", str(tmp_path / "cells.csv")])
    assert ended.value.code == 0
    assert pd.read_csv(tmp_path / "cells.csv").set_index("cell_id").loc[cells[3], "cell_type"] == "eosinophil"
    labels.write_text("cell_id,label\nnobody,blast\n")
    with pytest.raises(CellfeatError, match=r"labels\.csv must be of this store"):
        store.with_labels(labels)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reads_in_other_processes(path, method):
    store = Store(path)
    whole = store.read("features", slice(None))  # handles stand open in this process
    with multiprocessing.get_context(method).Pool(1 if method == "spawn" else 2) as pool:
        rows = [[5, 1, 16], [2, 12], list(range(18))] * 4
        for wanted, (features, pid) in zip(rows, pool.starmap(read_some, [(store, wanted) for wanted in rows])):
            np.testing.assert_array_equal(features, whole[wanted])
            assert pid != store.shards._pid
    np.testing.assert_array_equal(store.read("features", slice(None)), whole)


def read_inherited(rows, queue):
    queue.put(INHERITED.read("features", rows))


def test_handles_do_not_cross_a_fork(path):
    global INHERITED
    INHERITED = Store(path)
    whole = INHERITED.read("features", slice(None))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=read_inherited, args=([k, 16 - k], queue)) for k in range(3)]
    for child in children:
        child.start()
    found = sorted((queue.get(timeout=30) for _ in children), key=lambda features: str(features.tolist()))
    for child in children:
        child.join()
    wanted = sorted((whole[[k, 16 - k]] for k in range(3)), key=lambda features: str(features.tolist()))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(INHERITED.read("features", [3]), whole[[3]])


def test_pickle_keeps_the_shards_it_knew(path):
    store = Store(path)
    store.table()
    pickled = pickle.dumps(store)
    write(path, [*smear(), image(50)])
    assert len(pickle.loads(pickled)) == len(store) == len(Store(path)) - 1


def test_what_is_no_store_is_refused(tmp_path, path):
    with pytest.raises(CellfeatError, match="does not exist; give the folder"):
        Store(tmp_path / "nowhere")
    with pytest.raises(CellfeatError, match="is a file; give the folder"):
        Store(path / "manifest.json")
    with pytest.raises(CellfeatError, match=r"not a feature store \(no manifest\.json\)"):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "not a manifest"),
        ('{"format": "other"}', "not a cellfeat-store file"),
        ('{"format": "cellfeat-store", "version": "2.3"}', r"cellfeat-store 2\.3, .*up to 1\.x; update cellfeat"),
        ('{"format": "cellfeat-store", "version": "new"}', "not major.minor"),
        ('{"format": "cellfeat-store", "version": "1.0"}', "lacks 'feature_shape'"),
    ],
)
def test_bad_manifest_is_refused(path, text, message):
    (path / "manifest.json").write_text(text)
    with pytest.raises(CellfeatError, match=r"manifest\.json: .*" + message) as error:
        Store(path)
    assert "\n" not in str(error.value)


def test_missing_manifest_and_foreign_shard_names(path):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["shards"][0]["file"] = "../secret.h5"
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CellfeatError, match="no shard name"):
        Store(path)
    (path / "manifest.json").unlink()
    with pytest.raises(CellfeatError, match=r"manifest\.json is missing; restore it"):
        Store(path)


def test_newer_minor_version_is_read(path):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "version": "1.7", "new": 1}))
    assert len(Store(path)) == 18


def test_missing_and_truncated_shards_are_named(path):
    shard = path / Store(path).manifest["shards"][1]["file"]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    store = Store(path)
    store.read("features", [0])  # the others are readable
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: truncated or damaged .*restore it from a copy"):
        store.read("features", slice(None))
    shard.unlink()
    for read in (store.table, store.images, lambda: store.read("crops", slice(None))):
        with pytest.raises(CellfeatError, match=r"part-00001\.h5: listed in manifest\.json but missing; restore"):
            read()


def test_damaged_chunk_is_named(path):
    with h5py.File(path / "shards/part-00000.h5") as handle:
        offset = handle["crops"].id.get_chunk_info(1).byte_offset
    with open(path / "shards/part-00000.h5", "r+b") as handle:
        handle.seek(offset + 20)
        handle.write(b"\0\0\0\0")
    store = Store(path)
    with pytest.raises(CellfeatError, match=r"part-00000\.h5: cannot read crops"):
        store.read("crops", slice(None))


@pytest.mark.parametrize(("name", "value"), [("version", "2.0"), ("format", "other")])
def test_foreign_or_newer_shard_is_refused(path, name, value):
    with h5py.File(path / "shards/part-00001.h5", "r+") as handle:
        handle.attrs[name] = value
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: (not a cellfeat-store|written in cellfeat-store 2\.0)"):
        Store(path).table()


def test_shard_without_a_dataset_is_refused(path):
    with h5py.File(path / "shards/part-00001.h5", "r+") as handle:
        del handle["boxes"]
    with pytest.raises(CellfeatError, match=r"part-00001\.h5: lacks the dataset 'boxes'"):
        Store(path).table()
