"""Is the latent still alive? The alignment loss has a trivial minimum: every cell at one point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_SD = 0.01
"""Below this mean standard deviation (z lies in [-1, 1]) the cells of a domain are practically one point."""

MIN_EFFECTIVE_RANK = 2.0
"""Below this the cells of a domain lie on a line, whatever the size of z."""

MIN_CELLS = 10
"""A domain with fewer cells is not judged: its rank is small by construction."""


@dataclass(frozen=True)
class LatentHealth:
    """Spread of one domain's latents.

    Attributes:
        cells: Number of cells measured.
        sd: Standard deviation of z, averaged over its dimensions; NaN for fewer than two cells.
        effective_rank: Number of directions that z uses, 1 to d; NaN for fewer than two cells.
    """

    cells: int
    sd: float
    effective_rank: float

    @property
    def collapsed(self) -> bool:
        """Whether the latent no longer tells the cells of this domain apart."""
        return self.cells >= MIN_CELLS and (self.sd < MIN_SD or self.effective_rank < MIN_EFFECTIVE_RANK)


def latent_health(z: Tensor) -> LatentHealth:
    """Measure the latents (n, d) of one domain.

    The effective rank is exp(H(p)), H the entropy of the singular values of the centred z divided by their sum
    (Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007); 1 where all are 0.
    """
    if len(z) < 2:
        return LatentHealth(len(z), float("nan"), float("nan"))
    z = z.double()
    singular = torch.linalg.svdvals(z - z.mean(0))
    entropy = torch.special.entr(singular / singular.sum().clamp_min(torch.finfo(z.dtype).tiny)).sum()
    return LatentHealth(len(z), float(z.std(0).mean()), float(entropy.exp()))
