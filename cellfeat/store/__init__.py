"""The feature store: HDF5 shards of cells and one manifest (docs/store-format.md). The only package that knows HDF5."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellfeat.store.embeddings import Embeddings, embed_batches, read_embeddings, write_embeddings
    from cellfeat.store.predictions import Predictions, read_predictions, write_predictions
    from cellfeat.store.reader import Store
    from cellfeat.store.rows import CellRow, ImageResult
    from cellfeat.store.writer import StoreWriter

__all__ = [
    "CellRow",
    "Embeddings",
    "ImageResult",
    "Predictions",
    "Store",
    "StoreWriter",
    "embed_batches",
    "read_embeddings",
    "read_predictions",
    "write_embeddings",
    "write_predictions",
]

_MODULES = {
    "CellRow": "rows",
    "Embeddings": "embeddings",
    "ImageResult": "rows",
    "Predictions": "predictions",
    "Store": "reader",
    "StoreWriter": "writer",
    "embed_batches": "embeddings",
    "read_embeddings": "embeddings",
    "read_predictions": "predictions",
    "write_embeddings": "embeddings",
    "write_predictions": "predictions",
}


def __getattr__(name: str) -> Any:  # h5py and pandas load at first use, not with the package
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
