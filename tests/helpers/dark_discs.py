"""Pictures of one dark disc, whose stain, place and size are easily told."""

import torch


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dark_discs() -> torch.Tensor:
    """Sixteen times one dark disc off the centre on a light ground, 48 px."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    dark = torch.hypot(x - 24, y - 16) < 9
    return torch.where(dark, 0.2, 0.9).expand(16, 3, 48, 48).contiguous()
