"""Scores of kernels that are displaced by fractions of a pixel, as a wrong centre displaces an observed kernel.

Taylor's series up to second order, with derivatives taken by Fourier transform. A shift of half a pixel is exact to some
hundredths of what it changes.

Shape legend: N = kernels, R = components, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

from trainables.asbuilt.basis import MirrorBasis

ORDERS = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Derivatives along columns and rows."""


class Shifts(NamedTuple):
    """A kernel shifted by (a, b) pixels has its scores plus the sum over `ORDERS` (i, j) of a^i b^j / (i! j!) (matrix @ scores + offset)."""

    matrices: Tensor
    """[5, R, R]."""
    offsets: Tensor
    """[5, R], of the mean kernel."""

    @classmethod
    def of(cls, basis: MirrorBasis, channels: int) -> Self:
        """The maps for all components of a basis, on the CPU."""
        components = basis.components.float()
        side = math.isqrt(components.shape[1] // channels)
        maps = torch.cat([basis.mean.float()[None], components]).view(-1, channels, side, side)
        derived = torch.stack([(_derivative(maps, i, j).flatten(1) * basis.weights) @ components.mT for i, j in ORDERS])
        return cls(derived[:, 1:].mT.contiguous(), derived[:, 0])

    def apply(self, scores: Tensor, shift: Tensor) -> Tensor:
        """Scores [N, r] of the first components, and shifts [N, 2] in pixels, to the right and down -> [N, r]."""
        count = scores.shape[1]
        across, down = shift.unbind(1)
        powers = torch.stack([across**i * down**j / (math.factorial(i) * math.factorial(j)) for i, j in ORDERS], dim=1)
        # One product of matrices for all orders: each is as large as a layer of a network.
        each = (powers[..., None] * scores[:, None]).flatten(1)
        maps = self.matrices[:, :count, :count].mT.flatten(0, 1)
        changed: Tensor = scores + each @ maps + powers @ self.offsets[:, :count]
        return changed


def _derivative(kernels: Tensor, along: int, down: int) -> Tensor:
    """The derivative of kernels [N, C, K, K] with respect to a shift to the right (`along` times) and down (`down` times)."""
    frequencies = -2j * math.pi * torch.fft.fftfreq(kernels.shape[-1])
    spectrum = torch.fft.fft2(kernels) * frequencies**along * frequencies[:, None] ** down
    derivative: Tensor = torch.fft.ifft2(spectrum).real
    return derivative
