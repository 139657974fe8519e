"""Subset, merge, diff, export: what leaves a store is what was in it."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from store_helpers import SHAPE, cell, image, smear, write

from cellfeat.cli import main
from cellfeat.errors import CellfeatError
from cellfeat.store import Store, write_embeddings
from cellfeat.store.copying import merge, subset
from cellfeat.store.diff import diff
from cellfeat.store.export import export


def test_select(path):
    store = Store(path)
    table = store.table()
    rows = store.select(domain="south", label=["blast", ""], score=(0.6, 0.9))
    wanted = table["domain"].eq("south") & table["label"].isin(["blast", ""]) & table["score"].between(0.6, 0.9)
    assert rows.tolist() == table.index[wanted].tolist() != []
    assert store.select().tolist() == list(range(18))
    assert store.select(score=2.0).tolist() == []
    with pytest.raises(CellfeatError, match="no cell has the label 'plasma'; there are '', 'blast', 'monocyte'"):
        store.select(label="plasma")


def test_a_subset_keeps_rows_names_and_images(path, tmp_path):
    store = Store(path)
    part = subset(store, tmp_path / "part", domain="north")
    assert part.verify() == []
    rows = store.select(domain="north")
    pd.testing.assert_frame_equal(part.table(), store.table().iloc[rows].reset_index(drop=True))
    np.testing.assert_array_equal(part.read("features", slice(None)), store.read("features", rows))
    assert part.images()["image_id"].tolist() == [i.image_id for i in smear() if i.domain == "north"]
    assert part.provenance["subset_of"] == store.digest
    assert subset(store, tmp_path / "part", domain="north").digest == part.digest  # again: nothing to do
    few = subset(store, tmp_path / "few", label="blast")
    assert few.verify() == []
    assert few.table()["cell_id"].tolist() == store.table()["cell_id"][store.table()["label"] == "blast"].tolist()
    with pytest.raises(CellfeatError, match="no cell passes"):
        subset(store, tmp_path / "none", score=2.0)


def test_parts_merge_to_the_whole(path, tmp_path):
    store = Store(path)
    parts = [subset(store, tmp_path / name, domain=name) for name in ("north", "south")]
    merged = merge(parts, tmp_path / "merged")
    assert merged.verify() == []
    assert list(diff(store, merged).lines()) == ["no difference"]
    with pytest.raises(CellfeatError, match=r"image 'north/000\.jpg' is in .*store and in .*north"):
        merge([store, parts[0]], tmp_path / "twice")
    other = Store(write(tmp_path / "other", [image(1, shape=(4, 1, 1))], shape=(4, 1, 1)))
    with pytest.raises(CellfeatError, match=r"its feature_shape is \(4, 1, 1\)"):
        merge([store, other], tmp_path / "unlike")
    with pytest.raises(CellfeatError, match="cannot be compared"):
        diff(store, other)


def test_diff_names_rows_and_what_changed(path, tmp_path):
    images = smear()
    del images[1]
    images[1].cells[0].feature[0, 0, 0] += 0.5
    images[2].label = "blast"
    found = diff(Store(path), Store(write(tmp_path / "other", images)))
    assert found.only_first == ["south/001.jpg#0"]
    assert found.only_second == []
    assert len(found.changed) == 1
    assert "features by up to 0.5" in next(iter(found.changed.values()))
    assert found.images == ["south/001.jpg", "south/003.jpg"]
    assert not diff(Store(path), Store(tmp_path / "other"), tolerance=0.6).changed


@pytest.fixture
def embedded(path):
    store = Store(path)
    z = np.random.default_rng(0).normal(size=(18, 5)).astype(np.float32)
    names = store.table()["cell_id"].to_numpy()
    for method, scale in (("aecfe", 1), ("rcnn", 2)):  # in another order than the store
        said = {"method": method, "config": "{}", "store_digest": store.digest}
        write_embeddings(path / f"embeddings/{method}.h5", names[::-1], scale * z[::-1], said)
    return store, z, [path / "embeddings/aecfe.h5", path / "embeddings/rcnn.h5"]


def test_anndata_and_scanpy_open_the_export(embedded, tmp_path):
    anndata = pytest.importorskip("anndata")
    store, z, files = embedded
    data = anndata.read_h5ad(export(store, tmp_path / "cells.h5ad", embeddings=files))
    np.testing.assert_array_equal(data.X, z)
    np.testing.assert_array_equal(data.obsm["X_rcnn"], 2 * z)
    assert data.obsm["X_pca"].shape == (18, 2)
    x0, y0, x1, y1 = store.table()[["x0", "y0", "x1", "y1"]].to_numpy().T
    np.testing.assert_allclose(data.obsm["spatial"], np.stack([(x0 + x1) / 2, (y0 + y1) / 2], 1))
    assert data.obs_names.tolist() == store.table()["cell_id"].tolist()
    assert data.obs["cell_type"].tolist() == store.table()["label"].replace("", "unknown").tolist()
    assert data.obs["batch"].tolist() == store.table()["domain"].tolist()
    said = json.loads(data.uns["cellfeat"])
    assert said["store_digest"] == store.digest
    assert said["provenance"] == store.provenance
    scanpy = pytest.importorskip("scanpy")
    read = scanpy.read_h5ad(tmp_path / "cells.h5ad")
    scanpy.pp.pca(read, n_comps=2)
    np.testing.assert_allclose(np.abs(read.obsm["X_pca"]), np.abs(data.obsm["X_pca"]), atol=1e-4)


def test_parquet_csv_and_npz(embedded, tmp_path):
    pytest.importorskip("pyarrow")
    store, z, files = embedded
    parquet = pd.read_parquet(export(store, tmp_path / "cells.parquet", embeddings=files))
    csv = pd.read_csv(export(store, tmp_path / "cells.csv", embeddings=files), index_col="cell_id")
    for frame in (parquet, csv):
        assert frame.index.tolist() == store.table()["cell_id"].tolist()
        np.testing.assert_allclose(frame[[f"aecfe_{k}" for k in range(5)]], z, rtol=1e-5)
        assert {"cell_type", "batch", "sample", "score", "x0", "rcnn_4", "pca_1"} <= set(frame)
    with np.load(export(store, tmp_path / "cells.npz", embeddings=files)) as arrays:  # no pickles: the default
        np.testing.assert_array_equal(arrays["X_aecfe"], z)
        assert arrays["cell_id"].tolist() == store.table()["cell_id"].tolist()
        assert json.loads(str(arrays["provenance"]))["store_digest"] == store.digest
    assert "aecfe_0" not in pd.read_csv(export(store, tmp_path / "table.csv"))


def test_cytomining(embedded, tmp_path):
    pytest.importorskip("pyarrow")
    store, z, files = embedded
    path = export(store, tmp_path / "cells.parquet", "cytomining", files)
    frame = pd.read_parquet(path)
    assert frame["Metadata_cell_id"].tolist() == store.table()["cell_id"].tolist()
    assert {"Metadata_domain", "Metadata_label", "Metadata_image_id", "Metadata_x0"} <= set(frame)
    np.testing.assert_array_equal(frame[[f"Cells_aecfe_{k}" for k in range(5)]], z)
    assert all(name.startswith(("Metadata_", "Cells_")) for name in frame)
    pycytominer = pytest.importorskip("pycytominer")
    mean = pycytominer.aggregate(frame, ["Metadata_domain"], features="infer", operation="mean")
    expected = pd.DataFrame(z).groupby(store.table()["domain"]).mean()
    np.testing.assert_allclose(mean.set_index("Metadata_domain").iloc[:, :5], expected, rtol=1e-4)


def test_scportrait(embedded, tmp_path):
    """As `scportrait.io.read_h5sc` opens it: AnnData's elements, and the pictures as an array on disk."""
    anndata = pytest.importorskip("anndata")
    store, z, files = embedded
    path = export(store, tmp_path / "cells.h5sc", embeddings=files[:1])
    data = anndata.read_h5ad(path)
    assert data.obs["cell_id"].tolist() == list(range(1, 19))
    assert data.obs["name"].tolist() == store.table()["cell_id"].tolist()
    assert data.var["channels"].tolist() == ["cell", "red", "green", "blue"]
    assert data.var["channel_mapping"].tolist() == ["mask", *["image_channel"] * 3]
    facts = data.uns["single_cell_images"]
    assert (facts["n_masks"], facts["n_image_channels"], facts["image_size_x"]) == (1, 3, store.layout.crop_size)
    np.testing.assert_array_equal(data.obsm["X_aecfe"], z)
    with h5py.File(path) as file:
        images = file["obsm/single_cell_images"]
        assert (images.dtype, images.chunks) == (np.float16, (1, 1, *images.shape[2:]))
        assert images.attrs["channel_names"].tolist() == [b"cell", b"red", b"green", b"blue"]
        np.testing.assert_array_equal(images[:, 0], store.read("masks", slice(None)) > 0)
        crops = store.read("crops", slice(None)).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(images[:, 1:].astype(float) * 255, crops, atol=0.2)


def test_a_file_a_patient(tmp_path):
    images = smear()
    for k, result in enumerate(images):
        result.metadata = {"group": f"p {k % 2}"} if k % 3 else {}
    store = Store(write(tmp_path / "store", images))
    table = store.table()
    z = np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)
    said = {"method": "m", "config": "{}", "store_digest": store.digest}
    write_embeddings(tmp_path / "m.h5", table["cell_id"], z, said)
    folder = export(store, tmp_path / "patients", "genbloom", [tmp_path / "m.h5"])
    known = table[table["group"] != ""]
    seen = 0
    for path in folder.rglob("*.h5"):
        with h5py.File(path) as file:
            rows = known[(known["domain"] == path.parent.name) & (known["group"] == path.stem.replace("-", " "))]
            assert file["cell_id"].asstr()[:].tolist() == rows["cell_id"].tolist()
            np.testing.assert_array_equal(file["features"], z[rows.index])
            seen += len(rows)
    assert seen == len(known) > 0
    with pytest.raises(CellfeatError, match="needs the embeddings of one method, not 0"):
        export(store, tmp_path / "none", "genbloom")


def test_exports_that_cannot_be_are_refused(embedded, tmp_path, monkeypatch):
    store, z, files = embedded
    with pytest.raises(CellfeatError, match="--to zarr: no such format; choose one of h5ad"):
        export(store, tmp_path / "x.csv", "zarr")
    for name, words in {
        "x.xlsx": "'.xlsx'; use .h5ad",
        "x": "''; use",
        "x.geojson": "--to geojson or yolo or labels",
    }.items():
        with pytest.raises(CellfeatError, match=f"no format has the suffix .*{words}") as error:
            export(store, tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(CellfeatError, match=r"x\.csv: --to parquet writes a file with the suffix \.parquet"):
        export(store, tmp_path / "x.csv", "parquet")
    with pytest.raises(CellfeatError, match=r"x\.json: --to yolo writes a folder"):
        export(store, tmp_path / "x.json", "yolo")
    with pytest.raises(CellfeatError, match="--to coco has no place for embeddings"):
        export(store, tmp_path / "x.json", embeddings=files)
    with pytest.raises(CellfeatError, match="its cells have no patients"):
        export(store, tmp_path / "x", "genbloom", files[:1])
    with pytest.raises(CellfeatError, match="--to cytomining needs embeddings"):
        export(store, tmp_path / "x.parquet", "cytomining")
    with pytest.raises(CellfeatError, match="a second file of the method 'aecfe'"):
        export(store, tmp_path / "x.csv", embeddings=[files[0]] * 2)
    said = {"method": "m", "config": "{}", "store_digest": "another"}
    write_embeddings(tmp_path / "m.h5", store.table()["cell_id"], z, said)
    with pytest.raises(CellfeatError, match="embeds another store"):
        export(store, tmp_path / "x.csv", embeddings=[tmp_path / "m.h5"])
    with monkeypatch.context() as without:
        without.setattr("cellfeat.store.export.tables.import_module", _no_module)
        with pytest.raises(CellfeatError, match=r"needs pyarrow, which .* pip install 'cellfeat\[export\]'"):
            export(store, tmp_path / "x.parquet", embeddings=files)
    assert {file.name for file in tmp_path.iterdir()} == {"store", "m.h5"}


def _no_module(name):
    raise ImportError(name)


def test_the_suffix_tells_the_format(embedded, tmp_path):
    store, _, files = embedded
    assert len(pd.read_csv(export(store, tmp_path / "table.CSV"))) == 18
    with np.load(export(store, tmp_path / "cells.npz", embeddings=files)) as arrays:
        assert arrays["X_aecfe"].shape == (18, 5)


def test_formulas_are_quoted_in_csv(tmp_path):
    images = [
        image(0, [cell(0, label="=cmd|' /C calc'!A0")], metadata={"@slide": "+1", "stain": "Wright-Giemsa"}),
        image(1, [cell(1, label="-2+3")], image_id="=HYPERLINK(1)"),
    ]
    text = export(Store(write(tmp_path / "store", images)), tmp_path / "table.csv").read_text()
    assert "'=cmd|' /C calc'!A0" in text
    assert "'@slide" in text
    frame = pd.read_csv(tmp_path / "table.csv", dtype=str).fillna("")
    assert frame["cell_type"].tolist() == ["'=cmd|' /C calc'!A0", "'-2+3"]
    assert frame["cell_id"].tolist() == ["north/000.jpg#0", "'=HYPERLINK(1)#0"]
    assert frame["'@slide"].tolist() == ["'+1", ""]
    assert frame["stain"].tolist() == ["Wright-Giemsa", ""]
    assert not any(value.startswith(("=", "+", "-", "@")) for value in frame.to_numpy().ravel())


def test_command_line(path, tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return stop.value.code or 0, capsys.readouterr().out

    assert run("subset", path, "--output", tmp_path / "part", "--domain", "north")[0] == 0
    assert run("merge", tmp_path / "part", "--output", tmp_path / "merged")[0] == 0
    assert run("diff", tmp_path / "part", tmp_path / "merged") == (0, "no difference\n")
    status, out = run("diff", path, tmp_path / "part", "--tolerance", "0.1")
    assert (status, out.count("only in the first")) == (1, 12)
    assert run("export", path, "--output", tmp_path / "table.csv")[0] == 0
    assert run("verify", path) == (0, "verified: every shard is what the manifest says\n")
    with h5py.File(path / "shards/part-00000.h5", "r+") as handle:
        handle["features"][0] = np.zeros(SHAPE)
    assert run("verify", path)[0] == 1
    status, out = run("verify", path, "--repair")
    assert status == 0
    assert "4 images with 6 cells have to be computed again" in out
