"""Embeddings by patient, as models of whole patients such as GenBloom read them: one HDF5 file a patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from cellfeat.core.files import slug
from cellfeat.errors import CellfeatError
from cellfeat.store.export.detections import new_folder
from cellfeat.store.export.tables import cell_table
from cellfeat.store.new_hdf5 import new_hdf5
from cellfeat.store.reader import Store


def write_patients(store: Store, output: Path, embeddings: Sequence[str | Path] = ()) -> None:
    """Write `<domain>/<patient>.h5` with `features` (n, d) float32 and `cell_id` (n,) of the n cells of each patient.

    A patient is a value of the column `group` within a domain; cells without one are left out.

    Args:
        store: The store.
        output: The folder; it must be absent or empty.
        embeddings: One embedding file of this store.

    Raises:
        CellfeatError: Not one embedding file, or one of another store; no patients; two patients of one file name.
    """
    if len(embeddings) != 1:
        raise CellfeatError(f"--to genbloom needs the embeddings of one method, not {len(embeddings)}", "--embeddings")
    cells = cell_table(store, embeddings)
    [vectors] = cells.embeddings.values()
    table = cells.table
    known = table.get("group", "") != ""
    if "group" not in table or not known.any():
        raise CellfeatError(
            f"{store.path}: its cells have no patients", "state `group` in the dataset.yaml and dump again"
        )
    owner: dict[Path, str] = {}
    with new_folder(output) as folder:
        for (domain, patient), rows in table[known].groupby(["batch", "group"], observed=True):
            path = folder / slug(str(domain)) / f"{slug(str(patient))}.h5"
            if path in owner:
                raise CellfeatError(f"patients {owner[path]!r} and {patient!r} would both be {path.name}", "rename one")
            owner[path] = str(patient)
            path.parent.mkdir(exist_ok=True)
            with new_hdf5(path) as file:
                file["features"] = vectors[table.index.get_indexer(rows.index)]
                file.create_dataset("cell_id", data=rows.index.to_numpy(object), dtype=h5py.string_dtype())
