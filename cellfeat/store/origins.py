"""What a store's rows come from: the dumps or imports behind it, found through stores that were merged or cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellfeat.store.reader import Store


def origins(provenance: Any) -> Iterator[Mapping[str, Any]]:
    """A provenance, and those of the stores that this store was made of; what is no provenance is left out."""
    if not isinstance(provenance, Mapping):
        return
    yield provenance
    merged = provenance.get("merged")
    for part in [provenance, *(merged if isinstance(merged, list) else ())]:
        if isinstance(part, Mapping):
            yield from origins(part.get("provenance"))


def detectors_of(store: Store) -> set[str]:
    """The sha256 of the weights of each detector that took part, as far as the provenance tells."""
    found = (one.get("weights_sha256") for one in origins(store.provenance))
    return {digest for digest in found if isinstance(digest, str)}
