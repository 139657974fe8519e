"""The AE-CFE network: one encoder, and two decoders that make its latent keep both the features and the look of a cell.

Source: Salehi et al., "Unsupervised Cross-Domain Feature Extraction for Single Blood Cell Image Classification",
MICCAI 2022 (AE-CFE).
"""

from __future__ import annotations

from torch import Tensor, nn

from cellfeat.autoencoder.doubling import Doubling
from cellfeat.autoencoder.scaling import CellScaling, ChannelScaling

FEATURE_SHAPE = (256, 14, 14)  # of the detector's box pooler, as in the paper
IMAGE_SIZE = 128  # px, of the reference code's crops
LATENT_SIZE = 50  # as in the paper
IMAGE_CHANNELS = (200, 180, 150, 128)  # of the image decoder, as published


class Autoencoder(nn.Module):
    """Encoder, feature decoder and image decoder of AE-CFE; 3,969,141 parameters.

    The encoder normalises with GroupNorm after the ReLU, so nothing is shared between the cells of a batch and the
    embedding of a cell does not depend on its neighbours. The group counts of the reference are kept where they divide
    the channels; its 32 groups over 200 channels do not, and become 40 (5 channels a group, as in the next layer).
    The image decoder starts from the reconstructed features, not from the latent.
    """

    def __init__(self, scaling: CellScaling | ChannelScaling | None = None) -> None:
        """`scaling` brings features to [-1, 1] before they are encoded; None: `CellScaling`, the paper's."""
        super().__init__()
        self.scaling = scaling or CellScaling()
        self.encoder = nn.Sequential(
            *_encoder_block(256, 200, kernel=3, groups=40),  # 14 -> 12 px
            *_encoder_block(200, 150, kernel=3, groups=30, stride=2),  # 5
            *_encoder_block(150, 100, kernel=3, groups=10),  # 3
            *_encoder_block(100, 70, kernel=2, groups=10),  # 2
            *_encoder_block(70, 60, kernel=2, groups=20),  # 1
            nn.Conv2d(60, LATENT_SIZE, kernel_size=1),
            nn.Tanh(),
        )
        self.feature_decoder = nn.Sequential(
            nn.ConvTranspose2d(LATENT_SIZE, 150, kernel_size=5),  # 1 -> 5 px
            nn.ReLU(),
            nn.ConvTranspose2d(150, 200, kernel_size=4, stride=2),  # 12
            nn.ReLU(),
            nn.ConvTranspose2d(200, 256, kernel_size=3),  # 14
            nn.Tanh(),
        )
        a, b, c, d = IMAGE_CHANNELS
        self.image_decoder = nn.Sequential(
            nn.ConvTranspose2d(256, a, kernel_size=5, stride=2),  # 14 -> 31 px
            nn.ReLU(),
            Doubling(a, b),  # 63
            nn.ReLU(),
            Doubling(b, c),  # 127
            nn.ReLU(),
            nn.ConvTranspose2d(c, d, kernel_size=2),  # 128
            nn.ReLU(),
            nn.ConvTranspose2d(d, 3, kernel_size=1),
            nn.Sigmoid(),
        )

    def encode(self, h: Tensor) -> Tensor:
        """Embed cells.

        Args:
            h: (n, 256, 14, 14) features brought to [-1, 1] by `scaling`.

        Returns:
            z: (n, 50) in [-1, 1].
        """
        return self.encoder(h).flatten(1)

    def decode_features(self, z: Tensor) -> Tensor:
        """Reconstruct the scaled features (n, 256, 14, 14) in [-1, 1] from z (n, 50)."""
        return self.feature_decoder(z[:, :, None, None])

    def decode_images(self, features_hat: Tensor) -> Tensor:
        """Reconstruct the RGB crops (n, 3, 128, 128) in [0, 1] from reconstructed features (n, 256, 14, 14)."""
        return self.image_decoder(features_hat)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (z, features_hat, image_hat) for scaled features h (n, 256, 14, 14)."""
        z = self.encode(h)
        features_hat = self.decode_features(z)
        return z, features_hat, self.decode_images(features_hat)


def _encoder_block(channels_in: int, channels_out: int, kernel: int, groups: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=kernel, stride=stride),
        nn.ReLU(),
        nn.GroupNorm(groups, channels_out),
    ]
