"""A store's table and embeddings as AnnData, Parquet, CSV or npz, for scanpy, pandas, R and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellfeat import __version__
from cellfeat.core.files import atomic_path
from cellfeat.core.spreadsheet import without_formulas
from cellfeat.errors import CellfeatError
from cellfeat.store.embeddings import Embeddings, read_embeddings
from cellfeat.store.reader import Store

# The names that single-cell tools look for; the others stay as they are in the store.
COLUMNS = {"label": "cell_type", "domain": "batch", "image_id": "sample"}
UNKNOWN = "unknown"  # cell type of a cell without a label


def write_table(store: Store, output: Path, to: str, embeddings: Sequence[str | Path] = ()) -> None:
    """Write a store's table, and embeddings of its cells, as one file of another format.

    Rows are the cells in store order, named by cell_id. Columns: `cell_type` (the label, "unknown" for none), `batch`
    (the domain), `sample` (the image), `score`, `x0`, `y0`, `x1`, `y1` (px of the original image), then the metadata
    columns (with `metadata_` before a name that is one of these). The first
    embeddings are X, the others come under their method's name, and `X_pca` is the first in two dimensions:

    - h5ad: obs, X, obsm["X_pca"], obsm["X_<method>"], uns["cellfeat"] (provenance as JSON text);
    - parquet, csv: one column a dimension, `<method>_0` ...; Parquet's metadata hold the provenance under "cellfeat".
      In CSV a text that a spreadsheet would run as a formula has an apostrophe before it;
    - npz: one array a column, `X_<method>`, and the provenance as JSON text; no pickled objects.

    Args:
        store: The store.
        output: The file to write.
        to: A key of `TABLES`.
        embeddings: Embedding files of this store; h5ad needs one at least.

    Raises:
        CellfeatError: Embeddings of another store, or a package that is missing.
    """
    taken = {name: f"metadata_{name}" for name in store.metadata if name in COLUMNS.values()}
    table = store.table().rename(columns=taken | COLUMNS).set_index("cell_id")
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
    pca = _principal(next(iter(arrays.values()))) if arrays else None
    with atomic_path(output) as partial:
        TABLES[to](partial, table, arrays, pca, json.dumps(said, ensure_ascii=False))


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


def _flat(table: pd.DataFrame, arrays: dict[str, np.ndarray], pca: np.ndarray | None) -> pd.DataFrame:
    frames = [table]
    for method, z in {**arrays, **({"pca": pca} if pca is not None else {})}.items():
        frames.append(pd.DataFrame(z, index=table.index, columns=[f"{method}_{k}" for k in range(z.shape[1])]))
    return pd.concat(frames, axis=1)


def _h5ad(path: Path, table: pd.DataFrame, arrays: dict, pca: np.ndarray | None, said: str) -> None:
    anndata = _extra("anndata", "h5ad")
    if not arrays:
        raise CellfeatError("--to h5ad needs embeddings for its X; give --embeddings, or export as parquet or csv")
    method, *others = arrays
    obs = table.astype(dict.fromkeys(("cell_type", "batch", "sample"), "category"))
    variables = pd.DataFrame(index=[f"{method}_{k}" for k in range(arrays[method].shape[1])])
    data = anndata.AnnData(arrays[method], obs=obs, var=variables, uns={"cellfeat": said, "method": method})
    data.obsm["X_pca"] = pca
    for name in others:
        data.obsm[f"X_{name}"] = arrays[name]
    data.write_h5ad(path)


def _parquet(path: Path, table: pd.DataFrame, arrays: dict, pca: np.ndarray | None, said: str) -> None:
    arrow, parquet = _extra("pyarrow", "parquet"), _extra("pyarrow.parquet", "parquet")
    content = arrow.Table.from_pandas(_flat(table, arrays, pca))
    parquet.write_table(content.replace_schema_metadata({**content.schema.metadata, b"cellfeat": said.encode()}), path)


def _csv(path: Path, table: pd.DataFrame, arrays: dict, pca: np.ndarray | None, said: str) -> None:
    frame = _flat(table, arrays, pca).rename_axis("cell_id").reset_index()
    without_formulas(frame).to_csv(path, index=False)


def _npz(path: Path, table: pd.DataFrame, arrays: dict, pca: np.ndarray | None, said: str) -> None:
    frame = table.reset_index()
    columns = {
        name: frame[name].to_numpy(str if frame[name].dtype.kind not in "fiu" else frame[name].dtype) for name in frame
    }
    embedded = {f"X_{name}": z for name, z in {**arrays, **({"pca": pca} if pca is not None else {})}.items()}
    with open(path, "wb") as file:  # given a name, numpy would add its own suffix
        np.savez_compressed(file, **columns, **embedded, provenance=np.array(said))


def _extra(module: str, to: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise CellfeatError(
            f"--to {to} needs {module.split('.')[0]}, which is not installed: pip install 'cellfeat[export]'"
        ) from None


TABLES: dict[str, Callable[..., None]] = {"h5ad": _h5ad, "parquet": _parquet, "csv": _csv, "npz": _npz}
