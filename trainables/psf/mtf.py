"""The modulation transfer function of kernels.

Shape legend: ... = any dimensions, C = channel, K = kernel side in pixels, P = K K pixels, F = frequencies, D = directions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Along = Literal["all", "x", "y"] | float

NYQUIST = 0.5
"""Cycles per pixel: a kernel says nothing of finer lines."""
INTERVALS = 100
"""Of frequencies from 0 to Nyquist: an MTF50 is exact to 1 % of a Gaussian of 5 pixels, and to 0.1 % of one of a pixel."""
DIRECTIONS = 8
"""Over half a turn: the mean over 32 differs by less than 1 %."""
CHUNK = 1024


def mtf(kernels: Tensor, along: Along = "all") -> Tensor:
    """Modulation transfer [..., C, F] of kernels [..., C, K, K] at F = 101 frequencies from 0 to 0.5 cycles per pixel.

    Pixels average over their area, and that is part of it.

    Args:
        along: lines that vary along x or y only, or along a direction in radians from +x to +y; or the mean over directions.
    """
    cosines, sines = _waves(kernels, along)
    flat = kernels.flatten(-2).flatten(0, -2)
    parts = [torch.hypot(part @ cosines, part @ sines) for part in flat.split(CHUNK)]
    moduli = torch.cat([part.unflatten(-1, (-1, INTERVALS + 1)).mean(dim=-2) for part in parts])
    found: Tensor = (moduli / flat.sum(dim=-1, keepdim=True)).unflatten(0, kernels.shape[:-2])
    return found


def mtf50(kernels: Tensor, along: Along = "all") -> Tensor:
    """The lowest frequency at which half of the modulation is left, in cycles per pixel: [..., C, K, K] -> [..., C].

    It is 0.5, Nyquist's, where more than half is left at all frequencies: the true one is then at least that.
    """
    values = mtf(kernels, along)
    below = values < 0.5
    first = below.to(torch.int8).argmax(dim=-1, keepdim=True)  # at least 1, as the modulation starts with 1
    before = (first - 1).clamp_min(0)
    high, low = values.gather(-1, before), values.gather(-1, first)
    between = (before + (high - 0.5) / (high - low).clamp_min(1e-12)) * (NYQUIST / INTERVALS)
    found: Tensor = torch.where(below.any(dim=-1), between.squeeze(-1), NYQUIST)
    return found


def lp_per_mm(frequency: Tensor, pixel_um: float) -> Tensor:
    """Cycles per pixel as line pairs per millimetre on the sensor."""
    return frequency * (1000 / pixel_um)


def _waves(kernels: Tensor, along: Along) -> tuple[Tensor, Tensor]:
    """Cosines and sines [P, D F] of all directions' waves over a kernel's pixels."""
    side = kernels.shape[-1]
    axis = torch.arange(side, device=kernels.device, dtype=kernels.dtype) - (side - 1) / 2
    if isinstance(along, str):
        named = {"x": [0.0], "y": [math.pi / 2], "all": [math.pi * one / DIRECTIONS for one in range(DIRECTIONS)]}
        turns = named[along]
    else:
        turns = [-along]  # rows go down, y goes up
    places = torch.stack([axis[None, :] * math.cos(turn) + axis[:, None] * math.sin(turn) for turn in turns], dim=-1)
    frequencies = torch.linspace(0, NYQUIST, INTERVALS + 1, device=kernels.device, dtype=kernels.dtype)
    phases = (2 * math.pi * places[..., None] * frequencies).flatten(0, 1).flatten(1)
    return phases.cos(), phases.sin()
