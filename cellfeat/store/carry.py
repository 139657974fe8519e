"""Embeddings go along when stores are made of stores: the vectors of the cells that are kept, as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellfeat.errors import CellfeatError
from cellfeat.store.embeddings import Embeddings, read_embeddings, write_embeddings
from cellfeat.store.reader import Store

log = logging.getLogger(__name__)

FOLDER = "embeddings"  # of a store
FITTED = ("fitted_sha256", "weights_sha256")  # attributes that tell which weights made the vectors


def carry_into_subset(source: Store, part: Store) -> None:
    """Write the embeddings in a store's folder for the cells of a part of it."""
    for path, found in _embeddings_of(source):
        _write(part, path.name, found.of(part.table()["cell_id"]), found.attributes)


def carry_into_merged(stores: Sequence[Store], merged: Store) -> None:
    """Write those embeddings that all stores have, made alike, for the store that they were merged into.

    Vectors of two networks cannot be compared, and some methods standardise by the cells of a domain. So embeddings
    are left out, and that is logged, where their method, settings or weights differ or two stores share a domain.
    """
    found = [{path.name: one for path, one in _embeddings_of(store)} for store in stores]
    for name in sorted(set().union(*found)):
        several = [by_name[name] for by_name in found if name in by_name]
        reason = _why_not(stores, several)
        if reason:
            log.warning("%s: embeddings/%s is left out: %s; embed the merged store", merged.path, name, reason)
            continue
        vectors = np.concatenate([one.of(store.table()["cell_id"]) for store, one in zip(stores, several)])
        _write(merged, name, vectors, several[0].attributes)


def _why_not(stores: Sequence[Store], several: Sequence[Embeddings]) -> str:
    if len(several) < len(stores):
        return "not every store has it"
    domains = [domain for store in stores for domain in set(store.images()["domain"])]
    if shared := sorted({domain for domain in domains if domains.count(domain) > 1}):
        return f"two stores have cells of the domain {shared[0]}"
    first, *others = ({**one.attributes, "store_digest": "", "d": one.z.shape[1]} for one in several)
    if any(other != first for other in others):
        return "its settings or weights differ"
    if len(stores) > 1 and not any(name in first for name in FITTED):
        return "it does not tell which weights made it"
    return ""


def _embeddings_of(store: Store) -> Iterator[tuple[Path, Embeddings]]:
    """Those in the store's folder that are of this store; others are left out, and that is logged."""
    for path in sorted((store.path / FOLDER).glob("*.h5")):
        try:
            found = read_embeddings(path)
        except CellfeatError as error:
            log.warning("%s; it is left out", error.what)
            continue
        if found.attributes["store_digest"] != store.digest:
            log.warning("%s: embeds another store than %s and is left out", path, store.path)
            continue
        yield path, found


def _write(store: Store, name: str, vectors: np.ndarray, attributes: dict[str, Any]) -> None:
    said = {**attributes, "store_digest": store.digest}
    write_embeddings(store.path / FOLDER / name, store.table()["cell_id"].to_numpy(), vectors, said)
