"""What a user asks of a kernel: its RMS radius, its MTF50, how lopsided it is. The same for measured, traced and predicted ones.

Shape legend: ... = any dimensions, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trainables.psf.metrics import centroid, rms_radius
from trainables.psf.mtf import lp_per_mm, mtf, mtf50

__all__ = ["QUANTITIES", "Quantity", "asymmetry", "centroid", "lp_per_mm", "mtf", "mtf50", "rms_radius"]

Quantity = Callable[[Tensor], Tensor]
"""Kernels [..., C, K, K] -> a number of each channel [..., C]."""


def asymmetry(kernels: Tensor, along: Literal["x", "y"] = "x") -> Tensor:
    """Light right of the kernel's middle minus light left of it, over all of it; along y, above minus below: [..., C].

    0 of a kernel that is its own mirror image, 1 if all light is right.
    """
    lines = kernels.sum(dim=-2) if along == "x" else kernels.sum(dim=-1).flip(-1)  # row 0 is the top
    half = kernels.shape[-1] // 2
    return (lines[..., -half:].sum(dim=-1) - lines[..., :half].sum(dim=-1)) / lines.sum(dim=-1)


def central(draws: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
    """Ends of the central interval of draws [S, ...] and their median, [...] each.

    One more draw of the same distribution lies inside with probability `level`: the p-quantile is draw p (S + 1) by size (Weibull
    1939), as far as there are so many draws.
    """
    count = len(draws)
    tails = torch.tensor([(1 - level) / 2, 0.5, (1 + level) / 2], device=draws.device, dtype=draws.dtype)
    places = ((tails * (count + 1) - 1) / (count - 1)).clamp(0, 1)
    low, median, high = draws.quantile(places, dim=0)
    return low, median, high


QUANTITIES: dict[str, Quantity] = {"rms_radius": rms_radius, "mtf50": mtf50, "asymmetry": asymmetry}
"""By the names under which `FittedUnit.interval` knows them: kernel pixels, cycles per kernel pixel, a share."""
