"""What AE-CFE minimises: a sum of objectives, one file each."""

from __future__ import annotations

from cellfeat.autoencoder.config import AutoencoderConfig
from cellfeat.autoencoder.objectives.alignment import Alignment
from cellfeat.autoencoder.objectives.base import Objective, Step
from cellfeat.autoencoder.objectives.features import Features
from cellfeat.autoencoder.objectives.image import Image
from cellfeat.autoencoder.objectives.profile import Profile
from cellfeat.autoencoder.objectives.thumbnail import Thumbnail

__all__ = ["Alignment", "Objective", "Step", "objectives_of"]


def objectives_of(config: AutoencoderConfig, domains: int, alignment: type[Objective] = Alignment) -> list[Objective]:
    """The objectives that a config weighs, for a number of domains; `alignment` takes the place of L_DA."""
    kinds: list[type[Objective]] = [Image, Features, alignment]
    kinds += [Profile] if config.profile_weight else []
    kinds += [Thumbnail] if config.thumbnail_weight else []
    return [kind(config, domains) for kind in kinds]
