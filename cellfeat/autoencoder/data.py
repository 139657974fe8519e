"""Batches of cells from a feature store: the same cells in the same order for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cellfeat.autoencoder.network import FEATURE_SHAPE, IMAGE_SIZE
from cellfeat.data.alignment import ANCHOR, anchor_of
from cellfeat.errors import CellfeatError, MissingRequirement

if TYPE_CHECKING:
    from cellfeat.store import Store


class Batch(NamedTuple):
    """Cells of one step.

    Attributes:
        features: (n, 256, 14, 14), the dtype of the store, not yet scaled.
        domain: (n,) int64, 0 is the anchor.
        image_index: (m,) int64, places in the batch of the cells whose images are reconstructed.
        crops: (m, 128, 128, 3) uint8 RGB crops of those cells, white outside the mask if the dataset was told so.
        rows: (n,) int64, rows of the cells in the store.
    """

    features: Tensor
    domain: Tensor
    image_index: Tensor
    crops: Tensor
    rows: Tensor


class CellDataset(Dataset):
    """Reads a whole batch at once: index it with what `BatchSampler` yields."""

    def __init__(self, store: Store, domain: np.ndarray, masked: bool = False) -> None:
        """Read from `store`; `domain` (len(store),) int64 numbers the domain of each row; `masked` whitens crops."""
        self.store = store
        self.cell_id = store.table()["cell_id"].to_numpy(str)
        self.domain = domain
        self._masked = masked

    def __getitem__(self, batch: tuple[np.ndarray, np.ndarray]) -> Batch:
        rows, image_index = batch
        return Batch(
            torch.from_numpy(self.store.read("features", rows)),
            torch.from_numpy(self.domain[rows]),
            torch.from_numpy(image_index),
            torch.from_numpy(read_crops(self.store, rows[image_index], self._masked)),
            torch.from_numpy(rows),
        )


def read_crops(store: Store, rows: np.ndarray, masked: bool) -> np.ndarray:
    """Crops (n, S, S, 3) uint8 RGB of the cells `rows`; `masked` whitens what lies outside the cell's mask."""
    crops = store.read("crops", rows)
    return np.where(store.read("masks", rows)[..., None] > 0, crops, np.uint8(255)) if masked else crops


class BatchSampler(Sampler[tuple[np.ndarray, np.ndarray]]):
    """Splits the rows into random batches, others in each epoch, the last one as short as it comes.

    Yields (rows, image_index): sorted row numbers, and the places among them of `image_fraction` of the cells (at least
    one), chosen without replacement so that a mean over them is an unbiased estimate of the mean over the batch.

    With several processes each takes an equal share of every batch; up to world_size − 1 cells that do not share out
    wait for another epoch.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        image_fraction: float = 1.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._rows = np.asarray(rows)
        self._batch_size = batch_size
        self._image_fraction = image_fraction
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._rows), self._batch_size)
        return whole + (rest >= self._world_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._rows)
        for step in range(len(self)):
            batch = order[step * self._batch_size : (step + 1) * self._batch_size]
            share = len(batch) // self._world_size
            rows = np.sort(batch[self._rank * share : (self._rank + 1) * share])
            rng = np.random.default_rng([self._seed, self._epoch, step, self._rank])
            images = rng.choice(share, max(1, round(self._image_fraction * share)), replace=False)
            yield rows, np.sort(images)


def order_domains(domains: Sequence[str], anchor: str | None, anchored: bool = True) -> list[str]:
    """Distinct names of `domains`, the anchor first, then the others sorted.

    Args:
        domains: Names.
        anchor: The anchor's name; see `anchor_of` for None.
        anchored: Whether the others are aligned to it; if not, no anchor has to be named.

    Raises:
        CellfeatError: No domain has the anchor's name.
        MissingRequirement: No anchor is named, and which it is cannot be known.
    """
    names = sorted(set(domains))
    if anchor is not None or anchored:
        anchor = anchor_of(names, anchor)
    else:  # no one is aligned to the first
        anchor = next((name for name in names if name.lower() == ANCHOR.lower()), names[0])
    return [anchor, *(name for name in names if name != anchor)]


def check_shapes(store: Store, crops: bool = True) -> None:
    """Refuse a store that the network cannot read; `crops` False leaves the crop size open (the encoder needs none).

    Raises:
        CellfeatError: The store is empty or its features or crops have another size.
    """
    if len(store) == 0:
        raise CellfeatError("the store has no cells; dump features of some images first")
    if tuple(store.feature_shape) != FEATURE_SHAPE:
        raise MissingRequirement(
            f"the store's features are {_size(store.feature_shape)} a cell, AE-CFE needs {_size(FEATURE_SHAPE)}: "
            "dump with mask pooling (14 × 14)"
        )
    if crops:
        crop_shape = store.read("crops", slice(0, 1)).shape[1:]
        if crop_shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise MissingRequirement(
                f"the store's crops are {_size(crop_shape)}, AE-CFE needs {IMAGE_SIZE}x{IMAGE_SIZE}x3: "
                f"dump with crop size {IMAGE_SIZE}"
            )


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)
