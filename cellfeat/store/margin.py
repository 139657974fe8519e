"""The margin around the box that a store's crops were cut with, as its provenance tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cellfeat.errors import CellfeatError
from cellfeat.store.origins import origins

if TYPE_CHECKING:
    from cellfeat.store.reader import Store


def margin_of(store: Store, remedy: str) -> float:
    """The margin of the crops, as a fraction of the box's longer side.

    Args:
        store: The store.
        remedy: What to do where the provenance does not tell it.

    Raises:
        CellfeatError: It does not, or stores of different margins were merged.
    """
    found = set(_margins(store.provenance))
    if len(found) == 1:
        return found.pop()
    if found:
        what = f"was merged from stores with crops of the margins {sorted(found)}"
        raise CellfeatError(f"{store.path}: {what}", "take the parts one by one")
    raise CellfeatError(f"{store.path}: its provenance does not tell the margin of its crops", remedy)


def _margins(provenance: Any) -> Iterator[float]:
    """Margins in the provenance of a dump, an import, or the stores that a store was made of."""
    for one in origins(provenance):
        for section, key in (("dump", "crop_margin"), ("crop", "margin")):
            place = one.get(section)
            value = place.get(key) if isinstance(place, Mapping) else None
            if isinstance(value, (int, float)) and 0 <= value <= 1:
                yield float(value)
