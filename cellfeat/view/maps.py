"""The map of an embedding, computed once: UMAP of every cell, kept beside the embeddings file.

The embeddings file itself stays as it is: comparisons know it by its digest. The map of `embeddings/aecfe.h5` is
`embeddings/maps/aecfe.h5`, a file of the same form that holds the digest of the embeddings it was made from.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellfeat.core.files import sha256_file
from cellfeat.data.cell_ids import rows_of
from cellfeat.errors import CellfeatError
from cellfeat.evaluation.projection import project
from cellfeat.store.cell_matrix import Kind, read_matrix, write_matrix

log = logging.getLogger(__name__)

KIND = Kind("cellfeat-map", "1.0", "points", "", "a map of embeddings", "view")
MAX_POINTS = 100_000  # drawn of one embedding; UMAP of more takes many minutes
SLOW = 5000  # cells above which the user is told to wait


@dataclass(frozen=True)
class Map:
    """Where the cells of a store lie in a picture of an embedding.

    Attributes:
        name: The method.
        points: (n, 2) float32 in [-1, 1], NaN for cells that are not drawn.
        reason: Why nothing is drawn; "" where points are.
    """

    name: str
    points: np.ndarray
    reason: str = ""


def map_of(path: Path, name: str, z: np.ndarray, cell_id: np.ndarray, domain: np.ndarray, digest: str) -> Map:
    """The map of one embeddings file: read where it was kept, else computed and kept.

    Args:
        path: The embeddings file.
        name: Its method.
        z: (n, d) vectors in the order of the store.
        cell_id, domain: (n,) of the store.
        digest: Of the store.
    """
    config, kept = config_of(path), kept_at(path)
    points = _kept(kept, config, cell_id)
    if points is None:
        if len(z) > SLOW:
            log.info("%s: computing the map of %d cells, a minute for 50,000; it is kept in %s", name, len(z), kept)
        found = project(z, domain, max_cells=MAX_POINTS)
        if found.reason:
            return Map(name, np.full((len(z), 2), np.nan, np.float32), found.reason)
        points = np.full((len(z), 2), np.nan, np.float32)
        points[found.rows] = found.points
        attributes = {"method": name, "config": json.dumps(config), "store_digest": digest}
        try:
            write_matrix(kept, KIND, cell_id[found.rows], found.points, (), attributes)
        except (OSError, CellfeatError) as error:  # a store on a disk that is read-only is shown all the same
            log.warning("%s: the map is not kept (%s)", kept, error)
    return Map(name, in_square(points))


def kept_at(path: Path) -> Path:
    """Where the map of an embeddings file is kept; not beside it, where `embeddings/*.h5` would name it too."""
    return path.parent / "maps" / path.name


def config_of(path: Path) -> dict[str, object]:
    """What a map of an embeddings file depends on."""
    return {"embeddings": sha256_file(path), "max_points": MAX_POINTS, "seed": 0}


def in_square(points: np.ndarray) -> np.ndarray:
    """Points moved and scaled, alike in both directions, so that they fill the square from -1 to 1.

    Args:
        points: (n, 2); rows of NaN stay.
    """
    if not np.isfinite(points).any():
        return points
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    return ((points - (low + high) / 2) / half * 0.95).astype(np.float32)  # some room at the edge


def _kept(path: Path, config: dict[str, object], cell_id: np.ndarray) -> np.ndarray | None:
    """Points of an earlier run in the order of the store, None where there are none of these embeddings."""
    if not path.is_file():
        return None
    try:
        content = read_matrix(path, KIND)
        if json.loads(str(content.attributes["config"])) != config or content.values.shape[1] != 2:
            return None
        points = np.full((len(cell_id), 2), np.nan, np.float32)
        points[rows_of(content.cell_id, cell_id, path)] = content.values
    except (CellfeatError, ValueError) as error:
        log.warning("%s is computed again (%s)", path, error)
        return None
    return points
