"""A store as a torch Dataset: safe under fork and spawn, and shuffled in blocks so that reads stay near each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from cellfeat.errors import CellfeatError
from cellfeat.store.reader import Store


class StoreDataset(Dataset):
    """Cells of a store as dicts of arrays; give it to a DataLoader with any number of workers.

    Each worker process opens the files itself. A DataLoader asks for a whole batch at once; it is read in store order.

        dataset = StoreDataset(store, rows=store.select(domain="site-a", score=0.5), names=("features", "crops"))
        loader = DataLoader(dataset, batch_size=500, sampler=BlockShuffle(len(dataset)), num_workers=2)

    Args:
        store: The store.
        rows: Row numbers, one an item; default all.
        names: Datasets to read, as in `Store.read`; each item also has "row", its row number.
    """

    def __init__(
        self, store: Store, rows: Sequence[int] | np.ndarray | None = None, names: Sequence[str] = ("features",)
    ) -> None:
        self.store = store
        self.rows = np.arange(len(store)) if rows is None else np.asarray(rows, np.int64)
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        rows = self.rows[np.asarray(indices, np.int64)]
        columns = {name: self.store.read(name, rows) for name in self.names}
        return [{"row": int(row), **{name: columns[name][k] for name in self.names}} for k, row in enumerate(rows)]


class BlockShuffle(Sampler[int]):
    """A random order in which neighbours stay close: blocks are shuffled, then the items of some blocks at a time.

    A pass touches `pool` blocks at once, hence few shards, whatever the size of the store; another order each epoch.

    Args:
        length: Number of items.
        block: Items that lie together in the store; 250 cells are 25 MB of features, read in one go.
        pool: Blocks that are mixed with each other (32 blocks of 250 are 8,000 cells, several batches of the paper);
            with block x pool at least `length`, a plain shuffle.
        seed: Of the order.
    """

    def __init__(self, length: int, block: int = 250, pool: int = 32, seed: int = 0) -> None:
        if block < 1 or pool < 1:
            raise CellfeatError(f"block {block}, pool {pool}: give positive numbers")
        self._length, self._block, self._pool, self._seed, self._epoch = length, block, pool, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        starts = rng.permutation(np.arange(0, self._length, self._block))
        for first in range(0, len(starts), self._pool):
            mixed = [np.arange(s, min(s + self._block, self._length)) for s in starts[first : first + self._pool]]
            yield from rng.permutation(np.concatenate(mixed)).tolist()
        self._epoch += 1
