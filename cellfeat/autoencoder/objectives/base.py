"""What an objective of AE-CFE is: something measured beforehand, a loss of each step, and its weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.data import Batch

if TYPE_CHECKING:
    from cellfeat.store import Store


class Step(NamedTuple):
    """One batch on its way through the network.

    Attributes:
        batch: The cells of this process.
        network: The network that is trained.
        indices: (n,) int64, where the batch's cells are among the training cells.
        h: (n, 256, 14, 14) scaled features.
        z: (n, 50) latents.
        features_hat: (n, 256, 14, 14) reconstructed features.
        all_z: Latents (m, 50) float32 of the batches of all processes.
        all_domain: (m,) int64, their domains.
        log: Takes the name and the value (scalar) of something worth a column of metrics.csv.
    """

    batch: Batch
    network: Any
    indices: np.ndarray
    h: Tensor
    z: Tensor
    features_hat: Tensor
    all_z: Tensor
    all_domain: Tensor
    log: Callable[[str, Tensor], None]


class Objective(nn.Module):
    """A term of the sum that AE-CFE minimises: `weight(epoch)` · `loss(step)`.

    Attributes:
        name: Of its column in metrics.csv, which holds the loss without its weight.
    """

    name: ClassVar[str]

    def __init__(self, config: AutoencoderConfig, domains: int) -> None:
        """`domains` is the number of domains that are trained on."""
        super().__init__()
        self.config = config

    def prepare(self, store: Store, rows: np.ndarray, group: np.ndarray, network: Any) -> None:
        """Measure what the loss needs, before the first step.

        The same cells give the same numbers when an interrupted run continues.

        Args:
            rows: (n,) rows of the training cells, ascending.
            group: (n,) int64, the number of each cell's domain.
            network: Its scaling is measured already; warm starts change it.
        """

    def weight(self, epoch: int) -> float:
        """Weight of the loss in an epoch, counted from 0."""
        return 1.0

    def loss(self, step: Step) -> Tensor:
        """Scalar loss of one batch."""
        raise NotImplementedError
