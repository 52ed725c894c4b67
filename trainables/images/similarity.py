"""How alike two images are, beside SSIM (trainables/training/ssim.py): PSNR and MS-SSIM, per image, of values in [0, 1].

Shape legend: N = images, C = channel, H, W = pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.sizes import SSIM_WINDOW
from trainables.training.ssim import ssim_maps

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of MS-SSIM's scales, the finest first (Wang et al. 2003)."""


def psnr(images: Tensor, true: Tensor) -> Tensor:
    """10 log10(1 / MSE) in dB of images [N, C, H, W], [N]; at most 100 dB."""
    return -10 * (images - true).square().flatten(1).mean(dim=1).clamp_min(1e-10).log10()


def ms_ssim(images: Tensor, true: Tensor) -> Tensor:
    """SSIM over scales (Wang et al. 2003), each half the last, of images [N, C, H, W]: [N].

    There are five scales, or as many as are no smaller than a window; the weights are those of the paper's first, to a sum of 1.
    """
    count = scales(min(images.shape[2:]))
    weights = torch.tensor(WEIGHTS[:count], device=images.device)
    factors = []
    for scale in range(count):
        luminance, contrast = ssim_maps(images, true)
        last = scale == count - 1
        factors.append((luminance * contrast if last else contrast).flatten(1).mean(dim=1).clamp_min(0))
        images, true = F.avg_pool2d(images, 2), F.avg_pool2d(true, 2)
    return torch.stack(factors, dim=1).pow(weights / weights.sum()).prod(dim=1)


def scales(px: int) -> int:
    """Scales of `ms_ssim` for images of such a side."""
    return max(1, sum(px >> scale >= SSIM_WINDOW for scale in range(len(WEIGHTS))))
