"""The AE-CFE network with a short way from what the map holds, wherever it lies, to the latent."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cellfeat.autoencoder.network import FEATURE_SHAPE, LATENT_SIZE, Autoencoder
from cellfeat.autoencoder.profile import PROFILE_SIZE, best_linear_latent, pooled_features
from cellfeat.autoencoder.scaling import CellScaling, ChannelScaling


class PooledAutoencoder(Autoencoder):
    """z = tanh(convolutions(h) + linear(mean and standard deviation of each channel of h)), and two small decoders.

    It differs from the paper's network in five things. Each GroupNorm has one group: the last one works on 1 × 1 px,
    where a group of three channels keeps nothing but an angle. Weights are drawn after He et al. (ICCV 2015), the
    encoder's last ones are 0, so that training starts from the linear path and adds to it. That path starts as the best
    linear one, see `warm_start`. A linear decoder predicts the cell's profile from z, a 1 × 1 convolution
    its thumbnail from the reconstructed features.
    """

    pooled_mean: Tensor
    pooled_sd: Tensor

    def __init__(self, scaling: CellScaling | ChannelScaling | None = None) -> None:
        super().__init__(scaling)
        for layer in self.encoder:
            if isinstance(layer, nn.GroupNorm):
                layer.num_groups = 1
        pooled = 2 * FEATURE_SHAPE[0]
        self.register_buffer("pooled_mean", torch.zeros(pooled))
        self.register_buffer("pooled_sd", torch.ones(pooled))
        self.pooled_path = nn.Linear(pooled, LATENT_SIZE)
        self.profile_decoder = nn.Linear(LATENT_SIZE, PROFILE_SIZE)
        self.thumbnail_decoder = nn.Conv2d(FEATURE_SHAPE[0], 3, kernel_size=1)
        with torch.no_grad():
            draw_weights(self.encoder, last_gain=0.0)
            draw_weights(self.feature_decoder, last_gain=0.5)
            draw_weights(self.image_decoder, last_gain=0.5)
            for parameter in self.thumbnail_decoder.parameters():
                parameter.zero_()

    def encode(self, h: Tensor) -> Tensor:
        """Embed cells: scaled features h (n, 256, 14, 14) to z (n, 50) in [-1, 1]."""
        pooled = (pooled_features(h) - self.pooled_mean) / self.pooled_sd
        return torch.tanh(self.encoder[:-1](h).flatten(1) + self.pooled_path(pooled))

    def decode_profile(self, z: Tensor) -> Tensor:
        """Predict the standardised profiles (n, 609) from z (n, 50)."""
        return self.profile_decoder(z)

    def decode_thumbnails(self, features_hat: Tensor) -> Tensor:
        """Predict thumbnails (n, 3, 14, 14), less their mean picture, from reconstructed features (n, 256, 14, 14)."""
        return self.thumbnail_decoder(features_hat)

    @torch.no_grad()
    def warm_start(self, pooled: Tensor, profile: Tensor) -> None:
        """Set the linear path and the profile decoder to the best linear ones for these cells.

        Args:
            pooled: (n, 512), see `pooled_features`.
            profile: (n, 609), standardised.
        """
        self.pooled_mean.copy_(pooled.mean(0))
        sd = pooled.std(0, correction=0)
        self.pooled_sd.copy_(torch.where(sd > 1e-6, sd, 1.0))
        encoder, decoder = best_linear_latent((pooled - self.pooled_mean) / self.pooled_sd, profile, LATENT_SIZE)
        self.pooled_path.weight.copy_(encoder)
        self.pooled_path.bias.zero_()
        self.profile_decoder.weight.copy_(decoder)
        self.profile_decoder.bias.zero_()


def build_network(kind: str, scaling: str, domains: int) -> Autoencoder:
    """The network of a config: `kind` "paper" or "pooled", `scaling` "cell", "channel" or "domain"."""
    groups = {"channel": 1, "domain": domains}
    chosen = ChannelScaling(groups[scaling], FEATURE_SHAPE[0]) if scaling in groups else CellScaling()
    return PooledAutoencoder(chosen) if kind == "pooled" else Autoencoder(chosen)


def draw_weights(part: nn.Sequential, last_gain: float) -> None:
    """Normal weights whose variance is 2 / inputs a layer (He et al.), of the last layer `last_gain` / inputs."""
    layers = [layer for layer in part if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    for layer in layers:
        inputs = layer.in_channels * math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d):  # a pixel of the output meets one kernel place in stride²
            inputs //= math.prod(layer.stride)
        if layer.in_channels == LATENT_SIZE:  # from 1 × 1 px each output meets one place
            inputs = LATENT_SIZE
        gain = last_gain if layer is layers[-1] else 2.0
        layer.weight.normal_(0, math.sqrt(gain / max(inputs, 1)))
        if layer.bias is not None:
            layer.bias.zero_()
