"""The prediction of a cell's profile from its latent; see `cellfeat.autoencoder.profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from cellfeat.autoencoder.measured_once import measured_once
from cellfeat.autoencoder.objectives.base import Objective, Step
from cellfeat.autoencoder.profile import measure, profile_loss

if TYPE_CHECKING:
    from cellfeat.store import Store


class Profile(Objective):
    """Mean squared error of the predicted profiles, standardised by domain or over all cells."""

    name: ClassVar[str] = "profile_loss"

    def prepare(self, store: Store, rows: np.ndarray, group: np.ndarray, network: Any) -> None:
        """Measure the profiles of the training cells, and start the linear path of the network from them."""
        group = group if self.config.scaling == "domain" else np.zeros_like(group)

        def measured() -> dict[str, Tensor]:
            profiles, pooled = measure(store, rows, group, network.scaling)
            return {"profiles": profiles, "pooled": pooled}

        settings = {"what": "profiles", "scaling": self.config.scaling, "group": group.tolist()}
        found = measured_once(store, rows, settings, measured)
        self._profiles = found["profiles"]
        network.warm_start(found["pooled"], self._profiles)

    def weight(self, epoch: int) -> float:
        """The setting `profile_weight`."""
        return self.config.profile_weight

    def loss(self, step: Step) -> Tensor:
        """Mean over the batch."""
        return profile_loss(step.network.decode_profile(step.z.float()), self._profiles[step.indices].to(step.h))
