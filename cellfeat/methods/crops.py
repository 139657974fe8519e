"""Crops as training batches: the same cells, in the same order, changed in the same way for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cellfeat.methods.background import purple_masks

if TYPE_CHECKING:
    from cellfeat.store import Store

Masked = Literal["mask", "purple"]

READ_BATCH = 256  # crops at a time: 12 MB of 128 px


class CropBatch(NamedTuple):
    """Cells of one step.

    Attributes:
        images: (n, 3, S, S) float32 RGB, normalised.
        label: (n,) int64, number of the class; -1 where it is unknown or not to be known.
        rows: (n,) int64, rows of the cells in the store.
    """

    images: Tensor
    label: Tensor
    rows: Tensor


class Normalisation(NamedTuple):
    """Mean and standard deviation of the channels of crops in [0, 1], for each domain.

    Attributes:
        number: Domain to its row in the other two.
        mean: (domains, 3) float32.
        sd: (domains, 3) float32.
    """

    number: dict[str, int]
    mean: Tensor
    sd: Tensor

    @classmethod
    def fixed(cls, store: Store, mean: tuple[float, ...], sd: tuple[float, ...]) -> Normalisation:
        """The same three means and standard deviations for every domain of a store."""
        names = sorted(set(store.table()["domain"]))
        rows = {name: k for k, name in enumerate(names)}
        return cls(rows, torch.tensor([mean] * len(names)), torch.tensor([sd] * len(names)))

    @classmethod
    def measured(cls, store: Store, rows: np.ndarray) -> Normalisation:
        """Of the cells `rows`, each domain for itself."""
        domain = store.table()["domain"].to_numpy()[rows]
        names = sorted(set(domain))
        number = {name: k for k, name in enumerate(names)}
        sums, squares, pixels = np.zeros((len(names), 3)), np.zeros((len(names), 3)), np.zeros((len(names), 1))
        for start in range(0, len(rows), READ_BATCH):
            crops = store.read("crops", rows[start : start + READ_BATCH]).astype(np.float32) / 255
            place = np.array([number[name] for name in domain[start : start + READ_BATCH]])
            np.add.at(sums, place, crops.sum((1, 2), dtype=np.float64))
            np.add.at(squares, place, np.square(crops).sum((1, 2), dtype=np.float64))
            np.add.at(pixels, place, crops[0, ..., 0].size)
        mean = sums / pixels
        sd = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
        return cls(number, torch.from_numpy(mean).float(), torch.from_numpy(sd).float())

    def extended(self, names: Iterable[str], like: str) -> Normalisation:
        """With further domains, each with the mean and standard deviation of the domain `like`."""
        new = sorted(set(names) - set(self.number))
        rows = torch.tensor([*range(len(self.number)), *[self.number[like]] * len(new)])
        number = self.number | {name: len(self.number) + k for k, name in enumerate(new)}
        return Normalisation(number, self.mean[rows], self.sd[rows])

    def __call__(self, images: Tensor, place: Tensor) -> Tensor:
        """Normalise images (n, 3, S, S) in [0, 1] of the domains numbered `place` (n,)."""
        return (images - self.mean[place][:, :, None, None]) / self.sd[place][:, :, None, None]


class CropDataset(Dataset):
    """Reads a whole batch at once: index it with what `CropSampler` yields.

    Args:
        store: The store.
        label: (len(store),) int64, see `CropBatch`.
        normalisation: Of the channels.
        augment: Changes one image (3, S, S) uint8 at random; None changes nothing.
        masked: Blacken what lies outside the detector's mask ("mask") or the `purple_masks`; None blackens nothing.
    """

    def __init__(
        self,
        store: Store,
        label: np.ndarray,
        normalisation: Normalisation,
        augment: Callable[[Tensor], Tensor] | None = None,
        masked: Masked | None = None,
    ) -> None:
        self.store = store
        self._label = label
        self.normalisation = normalisation
        self._augment = augment
        self._masked = masked
        table = store.table()
        self.cell_id = table["cell_id"].to_numpy(str)
        self._domain = table["domain"].map(normalisation.number).fillna(-1).to_numpy(np.int64)

    def __getitem__(self, batch: tuple[np.ndarray, int]) -> CropBatch:
        rows, seed = batch
        crops = self.store.read("crops", rows)
        if self._masked is not None:
            masks = purple_masks(crops) if self._masked == "purple" else self.store.read("masks", rows)
            crops = crops * masks[..., None]
        images = torch.from_numpy(crops).permute(0, 3, 1, 2)
        if self._augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                images = torch.stack([self._augment(image) for image in images])
        images = self.normalisation(images.float() / 255, torch.from_numpy(self._domain[rows]))
        return CropBatch(images.contiguous(), torch.from_numpy(self._label[rows]), torch.from_numpy(rows))


def unknown_labels(store: Store) -> np.ndarray:
    """(len(store),) int64, all −1."""
    return np.full(len(store), -1, np.int64)


class CropSampler(Sampler[tuple[np.ndarray, int]]):
    """Random batches of the rows, others in each epoch, each with the seed of its augmentations.

    With `companions`, as many of those rows follow in every batch; they are dealt out at random as often as it takes.
    """

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int, companions: np.ndarray | None = None, shuffle: bool = True
    ) -> None:
        self._rows = np.asarray(rows, np.int64)
        self._companions = companions
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return max(1, min(-(-len(self._rows) // self._batch_size), len(self._rows) // 2))

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        rng = np.random.default_rng([self._seed, self._epoch])
        order = rng.permutation(self._rows) if self._shuffle else self._rows
        batches = np.array_split(order, len(self))  # of nearly equal size: batch norm needs two cells at least
        if self._companions is not None:
            turns = -(-len(order) // len(self._companions))
            dealt = np.concatenate([rng.permutation(self._companions) for _ in range(turns)])
            batches = [np.concatenate([a, b]) for a, b in zip(batches, np.array_split(dealt[: len(order)], len(self)))]
        for batch in batches:
            yield batch, int(rng.integers(2**62))


def loader(dataset: CropDataset, sampler: CropSampler, workers: int = 0) -> DataLoader:
    """The batches of a sampler, read and augmented by `workers` processes."""
    return DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers)
