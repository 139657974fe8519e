"""What leaves a store: tables for scanpy, pandas and R, detections for annotation tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellfeat.errors import CellfeatError
from cellfeat.store.export.detections import DETECTIONS, write_detections
from cellfeat.store.export.h5sc import write_h5sc
from cellfeat.store.export.patients import write_patients
from cellfeat.store.export.tables import TABLES, write_table
from cellfeat.store.reader import Store

# Suffix of the formats that are one file; the others are a folder. Of two with one suffix, the first is meant by it.
SUFFIXES = {
    **{"h5ad": ".h5ad", "parquet": ".parquet", "csv": ".csv", "npz": ".npz", "cytomining": ".parquet"},
    **{"h5sc": ".h5sc", "coco": ".json"},
}
PICTURES = {"h5sc": write_h5sc, "genbloom": write_patients}
FORMATS = (*TABLES, *DETECTIONS, *PICTURES)
FOLDERS = [name for name in FORMATS if name not in SUFFIXES]


def export(
    store: Store,
    output: str | Path,
    to: str | None = None,
    embeddings: Sequence[str | Path] = (),
    crop_margin: float | None = None,
) -> Path:
    """Write what a store holds in another format.

    `write_table`, `write_h5sc`, `write_patients` and `write_detections` say what it looks like.

    Args:
        store: The store.
        output: The file to write, or the folder, which must be absent or empty.
        to: A key of `SUFFIXES` or one of `FOLDERS`; default the one to which the suffix of `output` belongs. Folders
            have no suffix, so their format has to be given.
        embeddings: Embedding files of this store, for all but detections; h5ad, cytomining and genbloom need some.
        crop_margin: For detections: margin of the crops as a fraction of the box's longer side, where the store's
            provenance does not tell it.

    Returns:
        `output`.

    Raises:
        CellfeatError: No such format, a suffix of another one, embeddings of another store, a package that is missing,
            or a margin that nobody tells.
    """
    output = Path(output)
    to = _format(output, to)
    if to in TABLES:
        write_table(store, output, to, embeddings)
    elif to in PICTURES:
        PICTURES[to](store, output, embeddings)
    elif embeddings:
        others = ", ".join((*TABLES, *PICTURES))
        raise CellfeatError(f"--to {to} has no place for embeddings", f"leave them out, or choose {others}")
    else:
        write_detections(store, output, to, crop_margin)
    return output


def _format(output: Path, to: str | None) -> str:
    """The format that is asked for.

    Raises:
        CellfeatError: There is none, or `output` has the suffix of another.
    """
    by_suffix: dict[str, str] = {}
    for name, suffix_of_name in SUFFIXES.items():
        by_suffix.setdefault(suffix_of_name, name)
    suffix = output.suffix.lower()
    if to is None:
        if suffix not in by_suffix:
            known = ", ".join(f"{suffix} ({name})" for suffix, name in by_suffix.items())
            raise CellfeatError(
                f"{output}: no format has the suffix {suffix!r}",
                f"use {known}, or write a folder with --to {' or '.join(FOLDERS)}",
            )
        return by_suffix[suffix]
    if to not in FORMATS:
        raise CellfeatError(f"--to {to}: no such format", f"choose one of {', '.join(FORMATS)}")
    if to in FOLDERS and suffix in (*by_suffix, ".geojson"):
        raise CellfeatError(f"{output}: --to {to} writes a folder", "leave out the suffix")
    if to not in FOLDERS and suffix != SUFFIXES[to]:
        raise CellfeatError(f"{output}: --to {to} writes a file with the suffix {SUFFIXES[to]}", "name the output so")
    return to
