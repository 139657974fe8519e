"""What a training measures of its cells beforehand, kept for other seeds and for runs that go on.

It depends on the cells alone and takes minutes for 100,000 of them. So it lies in the folder of caches, `measured/` in
`CELLFEAT_CACHE`, in files named by the digest of all that they were made from. They may be removed at any time; those
used last are kept, up to `LIMIT` bytes together. Processes that want the same at once each measure it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cellfeat.core.download import cache_folder
from cellfeat.core.files import digest
from cellfeat.core.tensors import save_tensors

if TYPE_CHECKING:
    import numpy as np

    from cellfeat.store import Store

VERSION = 1
"""One more where the same cells are to give other numbers."""
LIMIT = 4 << 30


def measured_once(
    store: Store, rows: np.ndarray, settings: dict[str, Any], measure: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `measure` returns, from an earlier run if there was one.

    Args:
        store: Where the cells are; its digest stands for them.
        rows: (n,) rows of the cells.
        settings: What is measured and all else that it depends on, JSON-able.
        measure: Called where the cells were not measured before.
    """
    made_from = {"version": VERSION, "store": store.digest, "rows": rows.tolist(), **settings}
    path = cache_folder() / "measured" / f"{digest(made_from)}.safetensors"
    with suppress(OSError, SafetensorError):  # not there, removed meanwhile or damaged
        found = load_file(path)
        os.utime(path)
        return _placed(found)
    made = _placed(measure())
    if sum(tensor.nbytes for tensor in made.values()) <= LIMIT:
        with suppress(OSError):  # a cache that cannot be written is done without
            save_tensors(path, made)
            _make_room(path.parent)
    return made


def _placed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Measured or read, they lie alike in memory: sums depend on order and alignment in their last bits."""
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest."""
    files = {file: file.stat() for file in folder.glob("*.safetensors")}
    total = 0
    for file in sorted(files, key=lambda file: files[file].st_mtime_ns, reverse=True):
        total += files[file].st_size
        if total > LIMIT:
            file.unlink(missing_ok=True)
