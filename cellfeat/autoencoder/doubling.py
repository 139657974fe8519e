"""A transposed convolution of 3 × 3 with stride 2 in another order, which processors compute faster in bf16."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Doubling(nn.ConvTranspose2d):
    """nn.ConvTranspose2d(channels_in, channels_out, kernel_size=3, stride=2) with its parameters: n to 2·n + 1 px.

    Of a row of the output every second pixel sees two pixels of the input (weights 2 and 0), the others one (weight 1).
    So four ordinary convolutions, of 2 × 2, 2 × 1, 1 × 2 and 1 × 1, give a quarter of the output each: the sub-pixel
    form of Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
    neural network", CVPR 2016. It is taken for bf16 on a CPU, and elsewhere PyTorch's own, whose sums are rounded in
    another order.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(n, channels_in, h, w) to (n, channels_out, 2·h + 1, 2·w + 1)."""
        low = x.dtype == torch.bfloat16 or (torch.is_autocast_enabled("cpu") and x.device.type == "cpu")
        return self.by_quarters(x) if low and x.device.type == "cpu" else super().forward(x, output_size)

    def by_quarters(self, x: Tensor) -> Tensor:
        """The same as `forward`, in any precision."""
        weight = self.weight.transpose(0, 1)
        two, one = weight[:, :, ::2].flip(2), weight[:, :, 1:2]
        quarters = [
            functional.conv2d(x, taps, self.bias, padding=(down, right))
            for down, rows in ((1, two), (0, one))
            for right, taps in ((1, rows[..., ::2].flip(3)), (0, rows[..., 1:2]))
        ]
        n, channels, height, width = quarters[0].shape
        shape = n, channels, 2 * height - 1, 2 * width - 1
        out = torch.empty(shape, dtype=quarters[0].dtype, device=x.device, memory_format=torch.channels_last)
        for k, quarter in enumerate(quarters):
            out[:, :, k // 2 :: 2, k % 2 :: 2] = quarter
        return out
