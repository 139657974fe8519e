"""A store's table and embeddings as AnnData, Parquet, CSV or npz, for scanpy, pandas, R and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat.core.files import atomic_path
from cellfeat.core.spreadsheet import csv_text
from cellfeat.core.version import __version__
from cellfeat.errors import CellfeatError
from cellfeat.store.embeddings import Embeddings, read_embeddings
from cellfeat.store.fields import whole_table
from cellfeat.store.new_hdf5 import NewHDF5, new_hdf5
from cellfeat.store.reader import Store

# The names that single-cell tools look for; the others stay as they are in the store.
COLUMNS = {"label": "cell_type", "domain": "batch", "image_id": "sample"}
UNKNOWN = "unknown"  # cell type of a cell without a label


@dataclass
class CellTable:
    """What a store and its embeddings hold, as other formats take it.

    Attributes:
        table: One row a cell, named by cell_id, with the columns of `write_table`.
        centres: (n, 2) float64, x and y of the boxes' centres, px of the original image.
        embeddings: Method to vectors (n, d) float32, in the order of the files.
        provenance: JSON text.
    """

    table: pd.DataFrame
    centres: np.ndarray
    embeddings: dict[str, np.ndarray]
    provenance: str


def cell_table(store: Store, embeddings: Sequence[str | Path] = ()) -> CellTable:
    """The table of a store with embeddings of its cells; see `write_table`."""
    taken = {name: f"metadata_{name}" for name in store.metadata if name in COLUMNS.values()}
    table = whole_table(store.table(), store.images()).rename(columns=taken | COLUMNS).set_index("cell_id")
    table["cell_type"] = table["cell_type"].replace("", UNKNOWN)
    arrays: dict[str, np.ndarray] = {}
    said: dict[str, Any] = {
        "package_version": __version__,
        "store_digest": store.digest,
        "provenance": store.provenance,
        "embeddings": {},
    }
    for path in embeddings:
        found = read_embeddings(path)
        method = str(found.attributes["method"])
        if method in arrays:
            raise CellfeatError(f"{path}: a second file of the method {method!r}; give one a method")
        arrays[method] = _vectors(store, table.index, found, path)
        said["embeddings"][method] = found.attributes
    boxes = table[["x0", "y0", "x1", "y1"]].to_numpy(float)
    return CellTable(table, (boxes[:, :2] + boxes[:, 2:]) / 2, arrays, json.dumps(said, ensure_ascii=False))


def write_table(store: Store, output: Path, to: str, embeddings: Sequence[str | Path] = ()) -> None:
    """Write a store's table, and embeddings of its cells, as one file of another format.

    Rows are the cells in store order, named by cell_id. Columns: `cell_type` (the label, "unknown" for none), `batch`
    (the domain), `sample` (the image; of a tile its field), `score`, `x0`, `y0`, `x1`, `y1` (px of the original image),
    then the metadata columns (with `metadata_` before a name that is one of these). The first
    embeddings are X, the others come under their method's name, and `X_pca` is the first in two dimensions:

    - h5ad: obs, X, obsm["X_pca"], obsm["X_<method>"], obsm["spatial"] (n, 2) (x and y of the cell's centre, px of the
      original image), uns["cellfeat"] (provenance as JSON text);
    - parquet, csv: one column a dimension, `<method>_0` ...; Parquet's metadata hold the provenance under "cellfeat".
      In CSV a text that a spreadsheet would run as a formula has an apostrophe before it;
    - cytomining: Parquet for pycytominer and its relatives: `Metadata_<column>` under the store's own names, and
      `Cells_<method>_0` ...;
    - npz: one array a column, `X_<method>`, and the provenance as JSON text; no pickled objects.

    Args:
        store: The store.
        output: The file to write.
        to: A key of `TABLES`.
        embeddings: Embedding files of this store; h5ad and cytomining need one at least.

    Raises:
        CellfeatError: Embeddings of another store, or a package that is missing.
    """
    cells = cell_table(store, embeddings)
    with atomic_path(output) as partial:
        TABLES[to](partial, cells)


def _vectors(store: Store, names: pd.Index, found: Embeddings, path: str | Path) -> np.ndarray:
    if found.attributes["store_digest"] != store.digest:
        raise CellfeatError(f"{path}: embeds another store than {store.path}; embed this one")
    return found.of(names)


def _principal(z: np.ndarray) -> np.ndarray:
    """The first two principal components, (n, 2) float32, signs fixed by the largest loading."""
    centred = z - z.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, np.argsort(values)[::-1][:2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    projected = centred @ axes
    return np.pad(projected, ((0, 0), (0, 2 - projected.shape[1]))).astype(np.float32)


def _flat(cells: CellTable) -> pd.DataFrame:
    return pd.concat([cells.table, *(_numbered(cells, f"{name}_", z) for name, z in _with_pca(cells).items())], axis=1)


def _with_pca(cells: CellTable) -> dict[str, np.ndarray]:
    first = next(iter(cells.embeddings.values()), None)
    return cells.embeddings | ({} if first is None else {"pca": _principal(first)})


def _numbered(cells: CellTable, prefix: str, z: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(z, index=cells.table.index, columns=[f"{prefix}{k}" for k in range(z.shape[1])])


def _needed(cells: CellTable, to: str, what: str) -> dict[str, np.ndarray]:
    if not cells.embeddings:
        raise CellfeatError(
            f"--to {to} needs embeddings for its {what}; give --embeddings, or export as parquet or csv"
        )
    return cells.embeddings


def _h5ad(path: Path, cells: CellTable) -> None:
    anndata = extra("anndata", "h5ad")
    arrays = _needed(cells, "h5ad", "X")
    method, *others = arrays
    obs = cells.table.astype(dict.fromkeys(("cell_type", "batch", "sample"), "category"))
    variables = pd.DataFrame(index=[f"{method}_{k}" for k in range(arrays[method].shape[1])])
    said = {"cellfeat": cells.provenance, "method": method}
    data = anndata.AnnData(arrays[method], obs=obs, var=variables, uns=said)
    data.obsm["X_pca"], data.obsm["spatial"] = _principal(arrays[method]), cells.centres
    for name in others:
        data.obsm[f"X_{name}"] = arrays[name]
    write_anndata(path, data)


def write_anndata(path: Path, data: Any, more: Callable[[NewHDF5], None] = lambda file: None) -> None:
    """Write an AnnData as h5ad, and `more` into the same file."""
    data.strings_to_categoricals()
    with new_hdf5(path) as file:
        import_module("anndata.io").write_elem(file, "/", data)
        more(file)


def _parquet(path: Path, cells: CellTable) -> None:
    _write_parquet(path, _flat(cells), cells.provenance)


def _cytomining(path: Path, cells: CellTable) -> None:
    own_names = {written: name for name, written in COLUMNS.items()}
    table = cells.table.rename_axis("cell_id").reset_index().rename(columns=own_names).add_prefix("Metadata_")
    numbers = [_numbered(cells, f"Cells_{name}_", z) for name, z in _needed(cells, "cytomining", "features").items()]
    frame = pd.concat([table, *(one.reset_index(drop=True) for one in numbers)], axis=1)
    _write_parquet(path, frame, cells.provenance)


def _write_parquet(path: Path, frame: pd.DataFrame, said: str) -> None:
    arrow, parquet = extra("pyarrow", "parquet"), extra("pyarrow.parquet", "parquet")
    content = arrow.Table.from_pandas(frame)
    parquet.write_table(content.replace_schema_metadata({**content.schema.metadata, b"cellfeat": said.encode()}), path)


def _csv(path: Path, cells: CellTable) -> None:
    frame = _flat(cells).rename_axis("cell_id").reset_index()
    path.write_text(csv_text(frame), encoding="utf-8")


def _npz(path: Path, cells: CellTable) -> None:
    frame = cells.table.reset_index()
    columns = {
        name: frame[name].to_numpy(str if frame[name].dtype.kind not in "fiu" else frame[name].dtype) for name in frame
    }
    embedded: dict[str, Any] = {f"X_{name}": z for name, z in _with_pca(cells).items()}
    with open(path, "wb") as file:  # given a name, numpy would add its own suffix
        np.savez_compressed(file, **columns, **embedded, provenance=np.array(cells.provenance))


def extra(module: str, to: str) -> Any:
    """A module of the extra `export`.

    Raises:
        CellfeatError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise CellfeatError(
            f"--to {to} needs {module.split('.')[0]}, which is not installed: pip install 'cellfeat[export]'"
        ) from None


TABLES: dict[str, Callable[[Path, CellTable], None]] = {
    "h5ad": _h5ad,
    "parquet": _parquet,
    "csv": _csv,
    "npz": _npz,
    "cytomining": _cytomining,
}
