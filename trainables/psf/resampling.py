"""Kernels on other pixels: another pitch, another number, another middle.

K = pixels of a kernel along a side, k = those wanted.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor


def resampled(kernels: Tensor, pixels: int, ratio: float = 1.0) -> tuple[Tensor, Tensor]:
    """Kernels [..., K, K] on `pixels` x `pixels` of `ratio` times the side; [..., k, k] of unit sum, and light lost [...].

    Their middle comes to the middle of pixel k // 2, which convolutions take as the origin. Light is conserved: each axis' cumulative
    light is interpolated by a cubic spline, and what pixels gather is its difference. Small negative values, as splines have, are cut.

    `lost` is the share of the light that fell outside.
    """
    weights = torch.from_numpy(weights_of(kernels.shape[-1], pixels, ratio)).to(kernels)
    found = (weights @ kernels @ weights.mT).clamp_min(0)
    light = found.sum(dim=(-2, -1), keepdim=True)
    return found / light, (1 - light[..., 0, 0] / kernels.sum(dim=(-2, -1))).clamp_min(0)


@lru_cache
def weights_of(before: int, after: int, ratio: float) -> NDArray[np.float64]:
    """Weights [k, K] of each axis. A column sums to one, or less where light falls outside."""
    steps = np.concatenate([np.zeros((1, before)), np.cumsum(np.eye(before), axis=0)])
    edges = before / 2 + ratio * (np.arange(after + 1) - after // 2 - 0.5)
    cumulative = CubicSpline(np.arange(before + 1), steps, bc_type="clamped")(edges.clip(0, before))
    return np.asarray(np.diff(cumulative, axis=0))
