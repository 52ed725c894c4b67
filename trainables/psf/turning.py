"""Kernels on the sensor, turned out of those on the +x axis: a centred lens looks the same from every azimuth.

Turned are samples of a smoothed density (deeplens_workers/pooling.py), so that the only error is that of the interpolation:
on the triplet 0.008 relative L2, where kernels turned as pixels of the same size have 0.10.

Shape legend: B = batch, C = channel, M = samples along a side, K = kernel side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplens_workers.lens_data import PixelFilter, unsaid_filter
from deeplens_workers.pooling import fine_px, sensor_weights


@dataclass(frozen=True)
class Turned:
    """How kernels of the +x axis become those of any azimuth.

    Args:
        trace_px: traced pixels along a side of a kernel on the sensor.
        aspect: height of the sensor over its width.
        pixel_filter: what the sensor's pixels gather; None of an earlier version, which did not say it.
    """

    trace_px: int
    aspect: float
    pixel_filter: PixelFilter | None = None

    @property
    def farthest(self) -> float:
        """The corner's distance from the centre, in half widths of the sensor."""
        return float((1 + self.aspect**2) ** 0.5)

    def radius(self, points: Tensor) -> Tensor:
        """Of points [B, d] on the sensor, [B] half widths from its centre."""
        # hypot has no gradient at the centre, where every azimuth is alike.
        return (points[:, 0].square() + (self.aspect * points[:, 1]).square() + 1e-12).sqrt()

    def azimuth(self, points: Tensor) -> Tensor:
        """Of points [B, d] on the sensor, [B] radians from +x to +y."""
        return torch.atan2(self.aspect * points[:, 1], points[:, 0])


class Turning(nn.Module):
    """Smoothed kernels [B, C, M, M] of points on the +x axis -> kernels [B, C, K, K] at any azimuth, of unit sum per channel.

    Differentiable in both.

    Args:
        kernel_px: pixels along a side of the kernels on the sensor.
    """

    weights: Tensor

    def __init__(self, turned: Turned, kernel_px: int) -> None:
        super().__init__()
        trace_px = turned.trace_px
        pixel_filter = turned.pixel_filter or unsaid_filter(trace_px, kernel_px)
        self.samples = fine_px(trace_px, kernel_px, pixel_filter)
        weights = torch.from_numpy(sensor_weights(self.samples, trace_px, kernel_px, pixel_filter)).float()
        self.register_buffer("weights", weights, persistent=False)
        ends = 1 - 1 / self.samples
        axis = torch.linspace(-ends, ends, self.samples)
        places = torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), dim=-1)  # x right, y up; row 0 is the top
        self.register_buffer("places", places, persistent=False)

    def forward(self, smooth: Tensor, azimuth: Tensor) -> Tensor:
        """Args: azimuth: [B] radians, from +x to +y."""
        cos, sin = azimuth.cos(), azimuth.sin()
        # Where the turned kernel has (x, y), the other has it turned back; grid_sample's y points down.
        back = torch.stack([torch.stack([cos, sin], -1), torch.stack([sin, -cos], -1)], dim=-2)
        where = torch.einsum("yxa,bta->byxt", self.places.to(smooth), back.to(smooth))
        turned = F.grid_sample(smooth, where, mode="bicubic", padding_mode="zeros", align_corners=False)
        light = (self.weights.to(smooth) @ turned @ self.weights.to(smooth).T).clamp_min(0)
        return light / light.sum(dim=(-2, -1), keepdim=True)


@lru_cache(maxsize=4)
def _turning(turned: Turned, kernel_px: int, device: torch.device) -> Turning:
    return Turning(turned, kernel_px).to(device)


@torch.no_grad()
def at_random_azimuths(
    turned: Turned, points: Tensor, smooth: Tensor, turns: Tensor, kernel_px: int
) -> tuple[Tensor, Tensor]:
    """Points [B, d] on the sensor, as far from its centre as those on the +x axis, and their kernels [B, C, K, K].

    Args:
        smooth: [B, C, M, M], of the points on the axis.
        turns: [B] in [0, 1): where among the azimuths at which the point is on the sensor.
    """
    radius = points[:, 0]
    least, most = (1 / radius).clamp_max(1).acos(), (turned.aspect / radius).clamp_max(1).asin()
    quadrant, place = (4 * turns).floor(), (4 * turns) % 1
    first = least + (most - least) * place
    x = radius * first.cos() * torch.where((quadrant == 1) | (quadrant == 2), -1.0, 1.0)
    y = radius * first.sin() * torch.where(quadrant >= 2, -1.0, 1.0)
    placed = torch.cat([x[:, None], y[:, None] / turned.aspect, points[:, 2:]], dim=1)
    return placed, _turning(turned, kernel_px, smooth.device)(smooth, torch.atan2(y, x))
