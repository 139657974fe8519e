"""The classes of a project in a store's provenance, where a dump puts them; parts and merged stores hold it within."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellfeat.data.class_tree import ClassTree, class_tree, joined_classes
from cellfeat.errors import Damaged

CLASSES = "classes"  # in the provenance of a dump: class to parent, of what differs from the 13 classes


def stored_classes(provenance: Mapping[str, Any], source: str) -> ClassTree:
    """The classes that a store's labels may have.

    Args:
        provenance: Of a dump, of a subset (`provenance`), or of merged stores (`merged`).
        source: Where it is from, for messages.

    Raises:
        CellfeatError: It holds no such classes, or merged stores contradict each other.
    """
    inner = provenance.get("provenance")
    if isinstance(inner, dict):
        return stored_classes(inner, source)
    if isinstance(merged := provenance.get("merged"), list):
        parts = [part.get("provenance") for part in merged if isinstance(part, dict)]
        return joined_classes(
            {
                f"part {number} of {source}": stored_classes(part, source)
                for number, part in enumerate(parts, 1)
                if isinstance(part, dict)
            }
        )
    own = provenance.get(CLASSES, {})
    if not (isinstance(own, dict) and all(isinstance(above, str) for above in own.values())):
        raise Damaged(f"{source}: the {CLASSES} in its manifest are no classes with parents", "dump again")
    return class_tree(own, source)
