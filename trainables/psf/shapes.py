"""What PSF people measure of a kernel: ellipticity, size, encircled energy.

Shape legend: ... = any dimensions, K = kernel side in pixels, R = radii.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SUB = 16
"""Parts of a pixel's side, of which each lies inside a circle or outside."""


class Shape(NamedTuple):
    """Of second moments about the centroid, of all light of the window alike.

    `size` is T = Ixx + Iyy in square pixels; its root is the RMS radius. `g1`, `g2` are the reduced shear of an ellipse of these
    moments, whose norm is (a - b) / (a + b) of its axes: g1 > 0 is longer along x, g2 > 0 along x = y. [...] each.
    """

    size: Tensor
    g1: Tensor
    g2: Tensor


def shape_of(kernels: Tensor) -> Shape:
    """Size and ellipticity of kernels [..., K, K], row 0 at the top (Bernstein and Jarvis 2002; Schneider and Seitz 1995)."""
    xx, yy, xy = _second_moments(kernels)
    size = xx + yy
    # Two axes' product; of rounded moments it may come out below zero.
    scale = size + 2 * (xx * yy - xy.square()).clamp_min(0).sqrt()
    return Shape(size, (xx - yy) / scale, 2 * xy / scale)


def encircled_energy(kernels: Tensor, radii: Tensor) -> Tensor:
    """Share of the light of kernels [..., K, K] within radii [R] in pixels of their centroids, [..., R].

    A pixel's light is spread evenly over it; light outside the window is not counted in.
    """
    x, y = _centroid(kernels)
    side = kernels.shape[-1]
    fine = (torch.arange(side * SUB, dtype=kernels.dtype) + 0.5) / SUB - side / 2
    # Rows go down, y goes up.
    distance = torch.hypot(fine - x[..., None, None], -fine[:, None] - y[..., None, None]).flatten(-2)
    light = kernels.repeat_interleave(SUB, dim=-1).repeat_interleave(SUB, dim=-2).flatten(-2) / SUB**2
    distance, order = distance.sort(dim=-1)
    within = light.gather(-1, order).cumsum(dim=-1)
    count = torch.searchsorted(distance, radii.expand(*distance.shape[:-1], -1).contiguous(), right=True)
    inside = torch.where(count > 0, within.gather(-1, (count - 1).clamp_min(0)), 0)
    found: Tensor = inside / kernels.sum(dim=(-2, -1))[..., None]
    return found


def _axis(kernels: Tensor) -> Tensor:
    return torch.arange(kernels.shape[-1], dtype=kernels.dtype) - (kernels.shape[-1] - 1) / 2


def _centroid(kernels: Tensor) -> tuple[Tensor, Tensor]:
    """x and y, which goes up, from the middle of kernels [..., K, K]: [...] each."""
    axis, total = _axis(kernels), kernels.sum(dim=(-2, -1))
    return (kernels.sum(dim=-2) * axis).sum(dim=-1) / total, -(kernels.sum(dim=-1) * axis).sum(dim=-1) / total


def _second_moments(kernels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ixx, Iyy and Ixy of kernels [..., K, K] about their centroids: [...] each."""
    (x, y), axis, total = _centroid(kernels), _axis(kernels), kernels.sum(dim=(-2, -1))
    xx = (kernels.sum(dim=-2) * axis.square()).sum(dim=-1) / total - x.square()
    yy = (kernels.sum(dim=-1) * axis.square()).sum(dim=-1) / total - y.square()
    xy = -((kernels * axis).sum(dim=-1) * axis).sum(dim=-1) / total - x * y
    return xx, yy, xy
